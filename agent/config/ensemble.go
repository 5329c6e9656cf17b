package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/paddockio/paddock/zab"
)

// ParseEnsemble reads lines "server.N=…", "group.N=…" and "weight.N=…". The
// error is Errors; its lines are indexes into the list plus one.
func ParseEnsemble(lines []string) (zab.Ensemble, error) {
	var e zab.Ensemble
	var errs Errors
	for i, l := range lines {
		key, value, ok := strings.Cut(l, "=")
		if !ok {
			errs = append(errs, &Error{Line: i + 1, Msg: fmt.Sprintf("wants server.N=host:port:port, got %q", l)})
			continue
		}
		if err := setEnsemble(&e, strings.TrimSpace(key), strings.TrimSpace(value)); err != nil {
			errs = append(errs, &Error{Line: i + 1, Key: key, Msg: err.Error()})
		}
	}
	if len(errs) == 0 {
		if err := e.Check(); err != nil {
			errs = append(errs, &Error{Msg: err.Error()})
		}
	}
	return e, errs.err()
}

// maxServerID is what ZooKeeper's manual allows: the id is the first byte of the
// sessions that the server opens. Apache's servers take greater ones from their
// files, and then give sessions of two servers the same ids.
const maxServerID = 255

// setEnsemble takes one property of a list of servers in.
func setEnsemble(e *zab.Ensemble, key, value string) error {
	if number, ok := strings.CutPrefix(key, "server."); ok {
		if id, err := strconv.ParseInt(number, 10, 64); err == nil && id > maxServerID {
			return fmt.Errorf("wants an id from 0 to %d behind the dot, got %d", maxServerID, id)
		}
	}
	return e.Set(key, value)
}
