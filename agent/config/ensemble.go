package config

import (
	"fmt"
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
		if err := e.Set(strings.TrimSpace(key), strings.TrimSpace(value)); err != nil {
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
