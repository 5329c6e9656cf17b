package command

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/paddockio/paddock/agent/api"
	"github.com/paddockio/paddock/agent/services"
	"github.com/paddockio/paddock/registry"
	"github.com/paddockio/paddock/registry/nameserver"
)

func servicesCommand() *cobra.Command {
	return addHTTPFlag(&cobra.Command{
		Use:   "services",
		Short: "List all services that are registered anywhere",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list api.ServiceList
			if err := ask(cmd, "GET", "/v1/services", nil, &list); err != nil {
				return err
			}
			return show(cmd, list, func(out io.Writer) {
				w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "SERVICE\tINSTANCES\tPROTOCOLS\tGROUPS\tVERSIONS")
				for _, s := range list.Services {
					fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", s.Name, s.Instances, words(s.Protocols), words(s.Groups), words(s.Versions))
				}
				w.Flush()
				noteStale(cmd, list.Live, freshness(list.Live, list.AsOf))
			})
		},
	})
}

// noteStale tells people, not pipes, that an answer is old.
func noteStale(cmd *cobra.Command, live bool, text string) {
	if !live {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", cmd.CommandPath(), text)
	}
}

func words(list []string) string {
	if len(list) == 0 {
		return "-"
	}
	return strings.Join(list, ",")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func lookupCommand() *cobra.Command {
	var group, version, protocol string
	cmd := addHTTPFlag(&cobra.Command{
		Use:   "lookup NAME",
		Short: "List the instances of a service",
		Long: `lookup prints the addresses of a service, an interface or a plain name, as
the agent knows them. The exit status is 1 if the service is not known or has no
instance.`,
		Example: `    paddock lookup org.apache.demo.Greeter
    paddock lookup org.apache.demo.Greeter -group blue -o json`,
		Args: nArgs(1, 1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{}
			for k, v := range map[string]string{"group": group, "version": version, "protocol": protocol} {
				if v != "" {
					q.Set(k, v)
				}
			}
			path := "/v1/services/" + url.PathEscape(args[0])
			if len(q) > 0 {
				path += "?" + q.Encode()
			}
			var s api.Service
			if err := ask(cmd, "GET", path, nil, &s); err != nil {
				return err
			}
			err := show(cmd, s, func(out io.Writer) {
				w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "ADDRESS\tPROTOCOL\tGROUP\tVERSION\tWEIGHT\tAPPLICATION")
				for _, in := range s.Instances {
					weight := strconv.Itoa(in.Weight)
					if !in.Enabled {
						weight = "offline"
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", net.JoinHostPort(in.Host, strconv.Itoa(in.Port)),
						orDash(in.Protocol), orDash(in.Group), orDash(in.Version), weight, orDash(in.App))
				}
				w.Flush()
				noteStale(cmd, s.Live, freshness(s.Live, s.AsOf))
			})
			if err == nil && len(s.Instances) == 0 {
				err = errFailed
			}
			return err
		},
	})
	cmd.Flags().StringVar(&group, "group", "", "only this group")
	cmd.Flags().StringVar(&version, "version", "", "only this version")
	cmd.Flags().StringVar(&protocol, "protocol", "", "only this protocol")
	return cmd
}

func registerCommand() *cobra.Command {
	return addHTTPFlag(&cobra.Command{
		Use:   "register FILE...",
		Short: "Register the services of a file",
		Long: `register gives service files, YAML or JSON, to the agent, which keeps their
services registered until deregister, also over restarts. - is standard input.
A service whose id is registered already is replaced. It prints the ids.

    service:
      name: org.apache.demo.Greeter
      protocol: dubbo
      port: 20880
      checks: [{tcp: "127.0.0.1:20880", interval: 2s}]

A file that the agent shall follow belongs into registry.services_dir instead.`,
		Args: nArgs(1, 1000, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			// All are checked before the first is sent.
			bodies := make([][]byte, len(args))
			var errs []error
			for i, file := range args {
				data, err := readInput(cmd, file)
				if err == nil {
					_, err = services.Parse(file, data)
				}
				bodies[i] = data
				errs = append(errs, err)
			}
			if err := errors.Join(errs...); err != nil {
				return err
			}
			var all api.RegisterResult
			for i, body := range bodies {
				var res api.RegisterResult
				if err := ask(cmd, "PUT", "/v1/registrations", body, &res); err != nil {
					return fmt.Errorf("%s: %w", args[i], err)
				}
				all.IDs = append(all.IDs, res.IDs...)
			}
			return show(cmd, all, func(w io.Writer) {
				for _, id := range all.IDs {
					fmt.Fprintln(w, id)
				}
			})
		},
	})
}

// maxInput bounds what is read from a file or from standard input.
const maxInput = 16 << 20

// readInput reads a file, or standard input for -.
func readInput(cmd *cobra.Command, file string) ([]byte, error) {
	in := cmd.InOrStdin()
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err == nil && len(data) > maxInput {
		err = fmt.Errorf("%s: more than %d bytes", file, maxInput)
	}
	return data, err
}

func deregisterCommand() *cobra.Command {
	return addHTTPFlag(&cobra.Command{
		Use:   "deregister ID...",
		Short: "Take back what register did",
		Long:  `deregister removes services by their ids, which register and registrations print.`,
		Args:  nArgs(1, 1000, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var errs []error
			done := []string{}
			for _, id := range args {
				if err := ask(cmd, "DELETE", "/v1/registrations/"+url.PathEscape(id), nil, nil); err != nil {
					errs = append(errs, err)
					continue
				}
				done = append(done, id)
			}
			err := show(cmd, map[string]any{"ids": done}, func(w io.Writer) {
				for _, id := range done {
					fmt.Fprintln(w, id)
				}
			})
			return errors.Join(append(errs, err)...)
		},
	})
}

func registrationsCommand() *cobra.Command {
	return addHTTPFlag(&cobra.Command{
		Use:   "registrations",
		Short: "List what the agent keeps registered",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list api.RegistrationList
			if err := ask(cmd, "GET", "/v1/registrations", nil, &list); err != nil {
				return err
			}
			return show(cmd, list, func(out io.Writer) {
				w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "ID\tSERVICE\tADDRESS\tSTATE\tSOURCE\tREMARK")
				for _, r := range list.Registrations {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.Service, net.JoinHostPort(orDash(r.Host), strconv.Itoa(r.Port)),
						r.State, r.Source, remark(r))
				}
				w.Flush()
			})
		},
	})
}

// remark is why a registration is not as it should be.
func remark(r api.Registration) string {
	if r.Error != "" {
		return r.Error
	}
	for _, c := range r.Checks {
		if c.Status != "passing" && c.Output != "" {
			return c.Name + ": " + c.Output
		}
	}
	return ""
}

func dnsCommand() *cobra.Command {
	var domain string
	var groups, versions, protocols []string
	name := &cobra.Command{
		Use:   "name SERVICE",
		Short: "Print the DNS names of a service",
		Long: `name prints the names under which the name server answers for a service. It
asks nobody: which protocols, groups and versions there are is said by flags.`,
		Example: `    paddock dns name org.apache.demo.Greeter -protocol dubbo -version 1.0.0
    dig @127.0.0.1 -p 8600 SRV $(paddock dns name greeter -o json | jq -r .name)`,
		Args: nArgs(1, 1, "SERVICE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := nameserver.Names(domain, viewOf(args[0], protocols, groups, versions))
			if err != nil {
				return err
			}
			v := map[string]any{"name": n.Name, "alias": n.Alias, "srv": append([]string{}, n.SRV...),
				"versions": append([]string{}, n.Versions...), "groups": append([]string{}, n.Groups...)}
			return show(cmd, v, func(out io.Writer) {
				w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
				fmt.Fprintf(w, "%s\tA AAAA SRV\n", n.Name)
				for _, s := range n.SRV {
					fmt.Fprintf(w, "%s\tSRV\n", s)
				}
				for _, s := range slices.Concat(n.Versions, n.Groups) {
					fmt.Fprintf(w, "%s\tA AAAA SRV\n", s)
				}
				if n.Alias != "" {
					fmt.Fprintf(w, "%s\tA AAAA SRV, while no other service is called so\n", n.Alias)
				}
				w.Flush()
			})
		},
	}
	name.Flags().StringVar(&domain, "domain", "paddock.", "the zone, dns.domain of the agent")
	name.Flags().StringSliceVar(&protocols, "protocol", nil, "a protocol of the service")
	name.Flags().StringSliceVar(&groups, "group", nil, "a group of the service")
	name.Flags().StringSliceVar(&versions, "version", nil, "a version of the service")
	return group("dns", "Names in DNS", "dns is about the names that the agent's name server answers for.", name)
}

// viewOf makes up a service that has what the flags say.
func viewOf(service string, protocols, groups, versions []string) registry.View {
	v := registry.View{Service: service}
	for i := range max(len(protocols), len(groups), len(versions)) {
		in := &registry.Instance{Service: service}
		at := func(list []string) string {
			if i < len(list) {
				return list[i]
			}
			return ""
		}
		in.Protocol, in.Group, in.Version = at(protocols), at(groups), at(versions)
		v.Instances = append(v.Instances, in)
	}
	return v
}
