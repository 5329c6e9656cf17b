package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/paddockio/paddock/registry/nameserver"
	"github.com/paddockio/paddock/zab"
	"github.com/paddockio/paddock/zab/storage"
)

// A ZooCfg is a zoo.cfg of Apache ZooKeeper 3.4 to 3.9, with the dynamic file
// and the myid it leads to (class QuorumPeerConfig).
type ZooCfg struct {
	// File is its name.
	File string
	// Text is the file without secrets.
	Text string
	// DataDir and LogDir hold the directory version-2.
	DataDir, LogDir string
	// ClientPort is 0 if only the list of servers gives it, or none does.
	ClientPort        int
	ClientPortAddress string
	// SecureClientPort is read for `server status` only: TLS is refused.
	SecureClientPort        int
	SecureClientPortAddress string
	// DynamicConfigFile holds the list of servers if it is not "".
	DynamicConfigFile string
	// Ensemble is empty for a server alone.
	Ensemble zab.Ensemble
	// MyID is the number in the file myid, 0 if there is none.
	MyID int
	// Properties are the keys that Apache passes through as system properties,
	// without "zookeeper."; also those that have a setting here.
	Properties map[string]string
	// Warnings are about keys that have no effect in this server.
	Warnings []string

	settings map[string]any      // key of ours → typed value
	from     map[string]position // key of ours → where it was set
	errs     Errors
	peerType string
	// neverAlone is standaloneEnabled=false.
	neverAlone bool
}

// position is where a setting comes from.
type position struct {
	file string
	line int
	key  string // as it is called there
}

// zooKey says how a key of zoo.cfg becomes a setting.
type zooKey struct {
	setting string
	convert func(value string) (any, error)
}

// zooKeys are the keys with a setting. Keys with a default in zoo.cfg other than
// ours are in zooDefaults.
var zooKeys = map[string]zooKey{
	"dataDir":                    {"zab.data_dir", zooText},
	"dataLogDir":                 {"zab.log_dir", zooText},
	"tickTime":                   {"zab.tick_time", zooUnit(time.Millisecond)},
	"minSessionTimeout":          {"zab.min_session_timeout", zooMinusOne},
	"maxSessionTimeout":          {"zab.max_session_timeout", zooMinusOne},
	"maxClientCnxns":             {"zab.max_client_cnxns", zooNoLimit},
	"maxCnxns":                   {"zab.max_cnxns", zooInt},
	"globalOutstandingLimit":     {"zab.max_in_flight", zooInt}, // there for all connections together
	"nio.sessionlessCnxnTimeout": {"zab.handshake_timeout", zooUnit(time.Millisecond)},
	"autopurge.snapRetainCount":  {"zab.snap_retain", zooRetain},
	"autopurge.purgeInterval":    {"zab.purge_interval", zooNever},
	"snapCount":                  {"zab.snap_count", zooInt},
	"snapSizeLimitInKb":          {"zab.snap_size_bytes", zooKiB},
	"preAllocSize":               {"zab.prealloc_bytes", zooKiB},
	"forceSync":                  {"zab.no_force_sync", zooNot(zooYes)},
	"fsync.warningthresholdms":   {"zab.slow_sync", zooUnit(time.Millisecond)},
	"snapshot.compression.method": {"zab.compression", func(v string) (any, error) {
		switch v {
		case "checked", "":
			return storage.Plain, nil
		case "gz", "snappy":
			return storage.Gzip, nil // snappy is read, not written: take warns
		}
		return nil, fmt.Errorf("wants gz, snappy or checked, got %q", v)
	}},
	"datadir.autocreate":     {"zab.must_exist", zooNot(zooLooseBool)},
	"digest.enabled":         {"zab.digest", zooLooseBool},
	"skipACL":                {"zab.skip_acl", zooYes},
	"enforceQuota":           {"zab.enforce_quota", zooLooseBool},
	"extendedTypesEnabled":   {"zab.extended_types", zooLooseBool},
	"4lw.commands.whitelist": {"zab.four_letter_words", zooWords},
	"admin.commandURL":       {"admin.command_url", zooText},
	"initLimit":              {"zab.init_limit", zooInt},
	"syncLimit":              {"zab.sync_limit", zooInt},
	"quorumListenOnAllIPs":   {"zab.quorum_listen_on_all_ips", zooBool},
	"reconfigEnabled":        {"zab.reconfig_enabled", zooBool},
	"standaloneEnabled":      {"zab.standalone_disabled", zooNot(zooBool)},
	"db.autocreate":          {"zab.no_auto_create", zooNot(zooLooseBool)},
	"commitLogCount":         {"zab.history_count", zooInt},
	"jute.maxbuffer":         {"zab.max_buffer", zooBytes},
	"DigestAuthenticationProvider.superDigest": {"zab.super_digest", zooText},
	"DigestAuthenticationProvider.enabled":     {"zab.no_digest_auth", zooNot(zooLooseBool)},
	"ensembleAuthName":                         {"zab.ensemble_names", zooList},
	"znode.container.checkIntervalMs":          {"zab.container_interval", zooUnit(time.Millisecond)},
	"znode.container.maxPerMinute":             {"zab.max_containers_per_minute", zooInt},
	"znode.container.maxNeverUsedIntervalMs":   {"zab.container_max_never_used_ms", zooInt},
}

// zooDefaults are settings whose default in a zoo.cfg is not ours.
func zooDefaults() map[string]any {
	return map[string]any{
		"zab.tick_time": 3 * time.Second, "zab.purge_interval": never,
		"zab.extended_types": false, "zab.client_listen": "",
	}
}

// never is the interval of what is not done.
const never = -time.Second

// zooChecked are keys that are read for their syntax and have no effect here.
var zooChecked = map[string]struct {
	convert func(string) (any, error)
	// fits is the value that says what this server does anyhow; nil is all of them.
	fits any
	// refuse makes other values an error, since they ask for protection.
	refuse bool
}{
	// Between the servers of an ensemble.
	"connectToLearnerMasterLimit": {zooInt, nil, false},
	"syncEnabled":                 {zooBool, nil, false},
	"standaloneEnabled":           {zooBool, nil, false},
	"quorum.cnxn.threads.size":    {zooInt, nil, false},
	"observerMasterPort":          {zooInt, -1, false},
	"portUnification":             {zooBool, nil, false},
	"sslQuorumReloadCertFiles":    {zooBool, nil, false},
	"sslQuorum":                   {zooBool, false, true},

	"quorum.auth.kerberos.servicePrincipal":   {zooText, nil, false},
	"quorum.auth.learner.saslLoginContext":    {zooText, nil, false},
	"quorum.auth.server.saslLoginContext":     {zooText, nil, false},
	"quorum.auth.enableSasl":                  {zooBool, false, true},
	"quorum.auth.serverRequireSasl":           {zooBool, false, true},
	"quorum.auth.learnerRequireSasl":          {zooBool, false, true},
	"multiAddress.enabled":                    {zooBool, nil, false},
	"multiAddress.reachabilityCheckTimeoutMs": {zooInt, nil, false},
	"multiAddress.reachabilityCheckEnabled":   {zooBool, nil, false},
	"oraclePath":                              {zooText, "", false},

	"snapshot.trust.empty":          {zooLooseBool, nil, false}, // the logs show whether they are whole
	"localSessionsEnabled":          {zooBool, false, false},
	"localSessionsUpgradingEnabled": {zooBool, nil, false},
	"clientPortListenBacklog":       {zooInt, nil, false}, // that of the system
	"metricsProvider.className":     {zooText, "org.apache.zookeeper.metrics.impl.DefaultMetricsProvider", false},
	"jvm.pause.monitor":             {zooBool, nil, false},
	"jvm.pause.info-threshold.ms":   {zooInt, nil, false},
	"jvm.pause.warn-threshold.ms":   {zooInt, nil, false},
	"jvm.pause.sleep.time.ms":       {zooInt, nil, false},
	"enforce.auth.enabled":          {zooLooseBool, false, true},
	"sessionRequireClientSASLAuth":  {zooLooseBool, false, true},
	"admin.forceHttps":              {zooLooseBool, false, true},
	"admin.needClientAuth":          {zooLooseBool, false, true},
}

func zooText(v string) (any, error) { return v, nil }

func zooInt(v string) (any, error) {
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("wants a whole number, got %q", v)
	}
	return int(n), nil
}

// zooBool is strict, as QuorumPeerConfig is for the keys it knows.
func zooBool(v string) (any, error) {
	if v != "true" && v != "false" {
		return nil, fmt.Errorf("wants true or false, got %q", v)
	}
	return v == "true", nil
}

// zooLooseBool is Boolean.parseBoolean, which reads the pass-through keys.
func zooLooseBool(v string) (any, error) { return strings.EqualFold(v, "true"), nil }

func zooYes(v string) (any, error) { return strings.EqualFold(v, "yes"), nil }

func zooNot(read func(string) (any, error)) func(string) (any, error) {
	return func(v string) (any, error) {
		b, err := read(v)
		return err == nil && b == false, err
	}
}

func zooUnit(unit time.Duration) func(string) (any, error) {
	return func(v string) (any, error) {
		n, err := zooInt(v)
		if err != nil {
			return nil, err
		}
		return time.Duration(n.(int)) * unit, nil
	}
}

func zooMinusOne(v string) (any, error) {
	if v == "-1" {
		return time.Duration(0), nil
	}
	return zooUnit(time.Millisecond)(v)
}

// zooNoLimit reads a number where 0 is no limit, which is -1 here.
func zooNoLimit(v string) (any, error) {
	n, err := zooInt(v)
	if n == 0 {
		return -1, err
	}
	return n, err
}

// zooNever reads hours, where 0 is never.
func zooNever(v string) (any, error) {
	d, err := zooUnit(time.Hour)(v)
	if d == time.Duration(0) {
		return never, err
	}
	return d, err
}

func zooRetain(v string) (any, error) {
	n, err := zooInt(v)
	if err != nil {
		return nil, err
	}
	return max(3, n.(int)), nil // Apache raises lower values
}

func zooKiB(v string) (any, error) {
	n, err := strconv.ParseInt(v, 10, 48)
	if err != nil || n < 0 {
		return nil, fmt.Errorf("wants a number of KiB, got %q", v)
	}
	return int64(n << 10), nil
}

// zooBytes reads as Integer.getInteger does, which knows hex.
func zooBytes(v string) (any, error) {
	n, err := strconv.ParseInt(v, 0, 32)
	if err != nil {
		return nil, fmt.Errorf("wants a number of bytes, got %q", v)
	}
	return int64(n), nil
}

func zooList(v string) (any, error) {
	list := []string{}
	for e := range strings.SplitSeq(v, ",") {
		list = append(list, strings.TrimSpace(e))
	}
	return list, nil
}

func zooWords(v string) (any, error) {
	words := []string{"srvr"} // always: zkServer.sh depends on it
	for w := range strings.SplitSeq(v, ",") {
		if w = strings.TrimSpace(w); (w == "*" || knownWord(w)) && !slices.Contains(words, w) {
			words = append(words, w)
		}
	}
	return words, nil
}

// ParseZooCfg reads the text of a zoo.cfg and nothing else: neither the dynamic
// file nor myid. The ZooCfg is usable as far as it goes even with an error,
// which is Errors.
func ParseZooCfg(file string, data []byte) (*ZooCfg, error) {
	z := &ZooCfg{
		File: file, Properties: map[string]string{},
		settings: zooDefaults(), from: map[string]position{},
	}
	props, errs := parseProperties(file, data)
	z.errs = errs
	seen := map[string]int{}
	dynamic := false
	for _, p := range props {
		dynamic = dynamic || p.key == "dynamicConfigFile"
	}
	for _, p := range props {
		if line, twice := seen[p.key]; twice && !zab.IsEnsembleKey(p.key) {
			z.warn(p, "was already set in line %d; the last one counts", line)
		}
		seen[p.key] = p.line
		if dynamic && zab.IsEnsembleKey(p.key) {
			z.fail(p, "must stand in the dynamic file, since dynamicConfigFile is set")
			continue
		}
		z.take(p)
	}
	z.finish(seen)
	digest, _ := z.settings["zab.super_digest"].(string)
	z.Text = withoutSecrets(string(data), digest)
	return z, z.errs.err()
}

func (z *ZooCfg) fail(p property, format string, args ...any) {
	z.errs = append(z.errs, &Error{z.File, p.line, p.key, fmt.Sprintf(format, args...)})
}

func (z *ZooCfg) warn(p property, format string, args ...any) {
	z.Warnings = append(z.Warnings, (&Error{z.File, p.line, p.key, fmt.Sprintf(format, args...)}).Error())
}

// take interprets one property.
func (z *ZooCfg) take(p property) {
	if k, ok := zooKeys[p.key]; ok {
		v, err := k.convert(p.value)
		if err != nil {
			z.fail(p, "%v", err)
			return
		}
		z.set(k.setting, v, p)
		if p.key == "snapshot.compression.method" && p.value == "snappy" {
			z.warn(p, "snappy is read here, not written: snapshots are written with gz")
		}
	}
	if k, ok := zooChecked[p.key]; ok {
		v, err := k.convert(p.value)
		switch {
		case err != nil:
			z.fail(p, "%v", err)
		case k.fits == nil || v == k.fits:
		case k.refuse:
			z.fail(p, "is not supported by this server, which refuses to run without the protection that it asks for")
		default:
			z.warn(p, "has no effect in this server")
		}
		if p.key == "standaloneEnabled" {
			z.neverAlone = v == false
		}
		return
	}
	var err error
	switch {
	case zab.IsEnsembleKey(p.key):
		err = setEnsemble(&z.Ensemble, p.key, p.value)
	case p.key == "dataDir":
		z.DataDir = p.value
	case p.key == "dataLogDir":
		z.LogDir = p.value
	case p.key == "clientPort":
		z.ClientPort, err = zooPort(p.value)
	case p.key == "clientPortAddress":
		z.ClientPortAddress = p.value
	case p.key == "secureClientPort":
		z.SecureClientPort, err = zooPort(p.value)
		if err == nil {
			err = errors.New("is not supported by this server: it has no TLS on the client port")
		}
	case p.key == "secureClientPortAddress":
		z.SecureClientPortAddress = p.value
	case p.key == "dynamicConfigFile":
		z.DynamicConfigFile = p.value
	case p.key == "version":
		z.Ensemble.Version, err = strconv.ParseInt(p.value, 16, 64)
	case p.key == "electionAlg":
		if p.value != "3" {
			err = fmt.Errorf("wants 3, the only algorithm left, got %q", p.value)
		}
	case p.key == "peerType":
		z.peerType = strings.ToLower(p.value)
		switch z.peerType {
		case "observer":
			z.set("zab.role", RoleObserver, p)
		case "participant":
			z.set("zab.role", RoleAuto, p)
		default:
			err = fmt.Errorf("wants participant or observer, got %q", p.value)
		}
	case strings.HasPrefix(p.key, "metricsProvider."):
		z.warn(p, "has no effect in this server")
	default:
		// Apache knows the rest as -Dzookeeper.<key>.
		z.Properties[p.key] = p.value
		if p.key == "admin.serverPort" {
			_, err = zooPort(p.value)
		}
		if p.key == "4lw.commands.whitelist" {
			z.warnWords(p)
			z.set("zab.loopback_words", []string{}, p) // who lists the words means just these
		}
		if strings.HasPrefix(p.key, "authProvider.") {
			z.authProvider(p)
		}
	}
	if err != nil {
		z.fail(p, "%v", err)
	}
}

// authProvider switches on a scheme that Apache's server has as a class.
func (z *ZooCfg) authProvider(p property) {
	switch class := p.value[strings.LastIndexByte(p.value, '.')+1:]; class {
	case "KeyAuthenticationProvider":
		z.set("zab.key_auth", true, p)
	case "EnsembleAuthenticationProvider":
		z.set("zab.ensemble_auth", true, p)
	case "DigestAuthenticationProvider", "IPAuthenticationProvider":
	default:
		z.warn(p, "class %s is not in this server: its scheme will be refused", p.value)
	}
}

func (z *ZooCfg) warnWords(p property) {
	for w := range strings.SplitSeq(p.value, ",") {
		if w = strings.TrimSpace(w); w != "" && w != "*" && !knownWord(w) {
			z.warn(p, "%q is no four-letter word", w)
		}
	}
}

func zooPort(v string) (int, error) {
	n, err := parsePort(v)
	if err != nil {
		return 0, fmt.Errorf("wants a port, got %q", v)
	}
	return n, nil
}

func (z *ZooCfg) set(setting string, v any, p property) {
	z.settings[setting] = v
	z.from[setting] = position{z.File, p.line, p.key}
}

// finish checks what concerns several keys. seen holds the line of each.
func (z *ZooCfg) finish(seen map[string]int) {
	if z.DataDir == "" && seen["dataDir"] == 0 {
		z.errs = append(z.errs, &Error{File: z.File, Key: "dataDir", Msg: "is required"})
	} else if z.DataDir == "" {
		z.fail(property{key: "dataDir", line: seen["dataDir"]}, "is empty")
	}
	if z.LogDir == "" {
		z.LogDir = z.DataDir
	}
	if z.ClientPortAddress != "" && seen["clientPort"] == 0 {
		z.fail(property{key: "clientPortAddress", line: seen["clientPortAddress"]}, "is set but clientPort is not")
	}
	if seen["clientPort"] > 0 {
		host := z.ClientPortAddress
		if host == "" {
			host = "0.0.0.0"
		}
		z.set("zab.client_listen", net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(z.ClientPort)),
			property{key: "clientPort", line: seen["clientPort"]})
	}
	if words, ok := z.settings["zab.four_letter_words"].([]string); ok && z.Properties["readonlymode.enabled"] == "true" {
		// Clients that can do with a read-only server ask it for its mode.
		z.settings["zab.four_letter_words"] = append(words, "isro")
	}
	z.finishAdmin(seen)
	z.finishEnsemble(seen)
}

func (z *ZooCfg) finishAdmin(seen map[string]int) {
	enabled, ok := z.Properties["admin.enableServer"]
	switch {
	case ok && !strings.EqualFold(enabled, "true"):
		z.set("admin.listen", "", property{key: "admin.enableServer", line: seen["admin.enableServer"]})
	case seen["admin.serverPort"] > 0 || seen["admin.serverAddress"] > 0:
		host, port := z.Properties["admin.serverAddress"], z.Properties["admin.serverPort"]
		if host == "" {
			host = "0.0.0.0"
		}
		if port == "" {
			port = "8080"
		}
		z.set("admin.listen", net.JoinHostPort(host, port),
			property{key: "admin.serverPort", line: max(seen["admin.serverPort"], seen["admin.serverAddress"])})
	}
}

func (z *ZooCfg) finishEnsemble(seen map[string]int) {
	if len(z.Ensemble.Members)+len(z.Ensemble.Groups)+len(z.Ensemble.Weights) == 0 {
		return
	}
	first := property{}
	for k, line := range seen {
		if zab.IsEnsembleKey(k) && (first.line == 0 || line < first.line) {
			first = property{key: k, line: line}
		}
	}
	if err := z.Ensemble.Check(); err != nil {
		z.fail(first, "%v", err)
	}
	z.set("zab.servers", z.Ensemble.Lines(), first)
}

// Quorum reports whether servers are listed that must agree; otherwise this one
// is standalone.
func (z *ZooCfg) Quorum() bool {
	if len(z.Ensemble.Members) == 0 {
		return false
	}
	return z.neverAlone || len(z.Ensemble.Voters()) > 1 || len(z.Ensemble.Members) > 1
}

// ReadZooCfg reads a zoo.cfg, the dynamic file it names, and myid. The error is
// Errors.
func ReadZooCfg(file string) (*ZooCfg, error) {
	data, err := readFile(file)
	if err != nil {
		return nil, Errors{{File: file, Msg: err.Error()}}
	}
	z, err := ParseZooCfg(file, data)
	z.errs = faults(err, file)
	if z.DynamicConfigFile != "" {
		z.readDynamic()
	}
	if z.DataDir != "" {
		z.readMyID()
	}
	return z, z.errs.err()
}

func (z *ZooCfg) readDynamic() {
	data, err := readFile(z.DynamicConfigFile)
	if err != nil {
		z.errs = append(z.errs, &Error{File: z.File, Key: "dynamicConfigFile", Msg: err.Error()})
		return
	}
	props, errs := parseProperties(z.DynamicConfigFile, data)
	z.errs = append(z.errs, errs...)
	// The version is the suffix of the name, and must not stand in such a file.
	if _, suffix, ok := cutLast(filepath.Base(z.DynamicConfigFile), ".dynamic."); ok {
		if v, err := strconv.ParseInt(suffix, 16, 64); err == nil {
			z.Ensemble.Version = v
		}
	}
	seen := map[string]int{}
	outer := z.File
	z.File = z.DynamicConfigFile // so that errors name it
	for _, p := range props {
		seen[p.key] = p.line
		switch {
		case zab.IsEnsembleKey(p.key):
			if err := setEnsemble(&z.Ensemble, p.key, p.value); err != nil {
				z.fail(p, "%v", err)
			}
		case p.key == "version" && z.Ensemble.Version == 0:
			v, err := strconv.ParseInt(p.value, 16, 64)
			if err != nil {
				z.fail(p, "wants a hex number, got %q", p.value)
			}
			z.Ensemble.Version = v
		case p.key == "version":
			z.fail(p, "must not stand in a file whose name ends in a version")
		default:
			z.fail(p, "is not server.N, group.N, weight.N or version")
		}
	}
	z.finishEnsemble(seen)
	z.File = outer
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// readMyID reads the id of this server, which a list of servers needs.
func (z *ZooCfg) readMyID() {
	file := filepath.Join(z.DataDir, "myid")
	id, err := ReadMyID(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !z.Quorum():
		return
	case err != nil && errors.Is(err, fs.ErrNotExist):
		z.errs = append(z.errs, &Error{File: file, Key: "myid", Msg: "is required, since servers are listed"})
		return
	case err != nil && !z.Quorum():
		// Debian's package has a text in it that asks for a number.
		z.Warnings = append(z.Warnings, err.Error()+"; a server alone needs none")
		return
	case err != nil:
		z.errs = append(z.errs, faults(err, file)...)
		return
	}
	z.MyID = id
	z.set("zab.id", id, property{})
	z.from["zab.id"] = position{file, 1, "myid"}
	if len(z.Ensemble.Members) == 0 {
		return
	}
	s, ok := z.Ensemble.Member(zab.ServerID(id))
	if !ok {
		z.errs = append(z.errs, &Error{file, 1, "myid", fmt.Sprintf("server %d is not listed in %s", id, z.File)})
		return
	}
	if (z.peerType == "observer") != s.Observer && z.peerType != "" {
		z.Warnings = append(z.Warnings, fmt.Sprintf("%s: peerType %s differs from the line of server %d, which counts", z.File, z.peerType, id))
	}
	role := RoleVoter
	if s.Observer {
		role = RoleObserver
	}
	z.settings["zab.role"] = role
	if z.settings["zab.client_listen"] == "" && s.ClientAddr != "" {
		z.settings["zab.client_listen"] = s.ClientAddr
		z.from["zab.client_listen"] = z.from["zab.servers"]
	}
}

// ReadMyID reads a file myid: a decimal number in its first line.
func ReadMyID(file string) (int, error) {
	data, err := readFile(file)
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(data), "\n")
	id, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || id < 0 || id > 255 {
		return 0, &Error{file, 1, "myid", fmt.Sprintf("wants a number from 0 to 255, got %.40q", strings.TrimSpace(line))}
	}
	return id, nil
}

// LoadZooCfg makes the Config of a plain ZooKeeper server: the settings of a
// zoo.cfg, Apache's admin server, and neither registry nor DNS nor config files.
func LoadZooCfg(file string) (Config, error) {
	c := Default()
	c.Registry, c.DNS, c.ConfigSync = Registry{}, nameserver.Config{}, nil
	c.Admin.Listen = "0.0.0.0:8080"
	c.Zab.Role = RoleVoter
	c.Name, _ = os.Hostname()
	c.File = file
	z, err := ReadZooCfg(file)
	if err != nil {
		return c, err
	}
	for _, l := range leaves(reflect.ValueOf(&c).Elem(), "") {
		if v, ok := z.settings[l.key]; ok {
			l.value.Set(reflect.ValueOf(v).Convert(l.value.Type()))
		}
	}
	c.DataDir = c.Zab.Server.Storage.DataDir
	if z.Quorum() {
		c.Zab.Server.Ensemble = &z.Ensemble
		if c.Zab.Server.ReconfigEnabled {
			id := c.Zab.Server.ID
			c.Zab.Server.OnEnsemble = func(e *zab.Ensemble) error { return StoreEnsemble(file, id, e) }
		}
	}
	c.Text, c.Warnings, c.from = z.Text, z.Warnings, z.from
	if _, ok := c.from["admin.listen"]; !ok {
		c.from["admin.listen"] = position{key: "admin.serverPort"} // a default of Apache's
	}
	c.finish()
	return c, place(c.Validate(), z.from)
}

// readFile reads a small file. The error does not repeat the name.
func readFile(name string) ([]byte, error) {
	st, err := os.Stat(name)
	if err == nil && !st.Mode().IsRegular() {
		return nil, errors.New("is not a file")
	}
	if err == nil && st.Size() > maxFileBytes {
		return nil, fmt.Errorf("has %d bytes, more than %d", st.Size(), maxFileBytes)
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(name)
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return data, err
}
