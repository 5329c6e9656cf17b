package shell

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/paddockio/paddock/zab/wire"
)

// javaDate is how java.util.Date prints itself.
const javaDate = "Mon Jan 02 15:04:05 MST 2006"

// statText is a stat in the eleven lines of class StatPrinter.
func statText(st wire.Stat) string {
	date := func(ms int64) string { return time.UnixMilli(ms).Format(javaDate) }
	return fmt.Sprintf("cZxid = %v\nctime = %s\nmZxid = %v\nmtime = %s\npZxid = %v\ncversion = %d\ndataVersion = %d\n"+
		"aclVersion = %d\nephemeralOwner = %v\ndataLength = %d\nnumChildren = %d\n",
		st.Czxid, date(st.Ctime), st.Mzxid, date(st.Mtime), st.Pzxid, st.Cversion, st.Version,
		st.Aversion, st.EphemeralOwner, st.DataLength, st.NumChildren)
}

// statJSON has the names of Apache's records; ids are hex text, since JSON
// numbers lose their low bits, and times are RFC 3339.
func statJSON(st wire.Stat) map[string]any {
	date := func(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }
	return map[string]any{
		"czxid": st.Czxid.String(), "mzxid": st.Mzxid.String(), "pzxid": st.Pzxid.String(),
		"ctime": date(st.Ctime), "mtime": date(st.Mtime),
		"version": st.Version, "cversion": st.Cversion, "aversion": st.Aversion,
		"ephemeralOwner": st.EphemeralOwner.String(), "dataLength": st.DataLength, "numChildren": st.NumChildren,
	}
}

func zxidText(z int64) string { return fmt.Sprintf("%#x", uint64(z)) }

// putData adds data to a JSON answer: as text if it is, else in base64.
func putData(m map[string]any, data []byte) {
	if utf8.Valid(data) {
		m["data"] = string(data)
		return
	}
	m["dataBase64"] = base64.StdEncoding.EncodeToString(data)
}

var permLetters = []struct {
	perm   wire.Perms
	letter byte
}{{wire.PermCreate, 'c'}, {wire.PermDelete, 'd'}, {wire.PermRead, 'r'}, {wire.PermWrite, 'w'}, {wire.PermAdmin, 'a'}}

func permText(p wire.Perms) string {
	var b strings.Builder
	for _, l := range permLetters {
		if p&l.perm != 0 {
			b.WriteByte(l.letter)
		}
	}
	return b.String()
}

// parseACL reads scheme:id:perms, separated by commas; an id may have colons.
// What cannot be read is told and left out (class AclParser).
func (s *Shell) parseACL(text string) []wire.ACL {
	acl := []wire.ACL{}
	for _, a := range javaSplit(text, ',') {
		first, last := strings.IndexByte(a, ':'), strings.LastIndexByte(a, ':')
		if first == last {
			s.errorf("%s does not have the form scheme:id:perm\n", a)
			continue
		}
		e := wire.ACL{ID: wire.ID{Scheme: a[:first], ID: a[first+1 : last]}}
	letters:
		for _, r := range a[last+1:] {
			for _, l := range permLetters {
				if r == rune(l.letter) {
					e.Perms |= l.perm
					continue letters
				}
			}
			s.errorf("Unknown perm type: %c\n", r)
		}
		acl = append(acl, e)
	}
	return acl
}

// javaSplit is String.split: empty words at the end do not count.
func javaSplit(text string, sep rune) []string {
	words := strings.Split(text, string(sep))
	for len(words) > 1 && words[len(words)-1] == "" {
		words = words[:len(words)-1]
	}
	return words
}

// hexDump prints bytes as Netty's prettyHexDump does; nothing for none.
func hexDump(data []byte) string {
	if len(data) == 0 {
		return ""
	}
	const line = "+--------+-------------------------------------------------+----------------+"
	var b strings.Builder
	b.WriteString("         +-------------------------------------------------+\n" +
		"         |  0  1  2  3  4  5  6  7  8  9  a  b  c  d  e  f |\n" + line)
	for at := 0; at < len(data); at += 16 {
		row := data[at:min(at+16, len(data))]
		fmt.Fprintf(&b, "\n|%08x|", at)
		text := make([]byte, 16)
		for i := range text {
			text[i] = ' '
			if i >= len(row) {
				b.WriteString("   ")
				continue
			}
			fmt.Fprintf(&b, " %02x", row[i])
			text[i] = '.'
			if row[i] > 0x1f && row[i] < 0x7f {
				text[i] = row[i]
			}
		}
		fmt.Fprintf(&b, " |%s|", text)
	}
	return b.String() + "\n" + line
}
