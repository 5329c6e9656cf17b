package config

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/paddockio/paddock/registry"
)

// serviceFile is a service file: one service, or a list.
type serviceFile struct {
	Service  registry.Registration   `key:"service"`
	Services []registry.Registration `key:"services"`
}

// maxServices bounds the list of one file.
const maxServices = 10_000

// ParseServices reads a service file, YAML or JSON: the key service with one
// service, or services with a list. Every registration is checked. The error is
// Errors, with file, line and key of everything that is wrong.
func ParseServices(file string, data []byte) ([]registry.Registration, error) {
	d := document{file: file, lines: map[string]int{}}
	root := d.root(data)
	if root == nil {
		if len(d.errs) == 0 {
			d.errs = append(d.errs, &Error{File: file, Msg: "has no service"})
		}
		return nil, d.errs.err()
	}
	var f serviceFile
	d.decode(root, reflect.ValueOf(&f).Elem(), "")
	_, one := d.lines["service"]
	_, many := d.lines["services"]
	list, prefix := f.Services, func(i int) string { return fmt.Sprintf("services[%d].", i) }
	switch {
	case one && many:
		d.errs = append(d.errs, &Error{file, d.lines["services"], "services", "cannot stand beside service"})
	case one:
		list, prefix = []registry.Registration{f.Service}, func(int) string { return "service." }
	case len(list) > maxServices:
		d.errs = append(d.errs, &Error{file, d.lines["services"], "services", fmt.Sprintf("has %d entries, more than %d", len(list), maxServices)})
	case len(list) == 0 && len(d.errs) == 0:
		d.errs = append(d.errs, &Error{File: file, Line: root.Line, Msg: "has no service"})
	}
	if len(d.errs) > 0 {
		return nil, d.errs.err()
	}
	var errs Errors
	ids := map[string]int{}
	for i, r := range list {
		errs = append(errs, fieldFaults(prefix(i), r.Validate())...)
		if r.ID == "" {
			continue
		}
		if first, twice := ids[r.ID]; twice {
			errs = append(errs, &Error{Key: prefix(i) + "id", Msg: fmt.Sprintf("%q is the id of services[%d] too", r.ID, first)})
		}
		ids[r.ID] = i
	}
	from := map[string]position{}
	for key, line := range d.lines {
		from[key] = position{file, line, key}
	}
	if err := place(errs.err(), from); err != nil {
		for _, e := range faults(err, file) {
			if e.File == "" {
				e.File = file
			}
		}
		return nil, err
	}
	return list, nil
}

// fieldFaults turns what Validate joined into faults with keys.
func fieldFaults(prefix string, err error) Errors {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		var fe *registry.FieldError
		if errors.As(err, &fe) {
			return Errors{{Key: prefix + fe.Field, Msg: fe.Err.Error()}}
		}
		return Errors{{Key: prefix[:len(prefix)-1], Msg: err.Error()}}
	}
	var all Errors
	for _, e := range joined.Unwrap() {
		all = append(all, fieldFaults(prefix, e)...)
	}
	return all
}
