// Register shows an app that needs no library: it tells the agent of its host
// what it serves, by HTTP, and finds others by DNS. Beside a running
//
//	go run . agent -dev
//
// call
//
//	go run ./examples/register
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"time"
)

func main() {
	agent := flag.String("agent", "http://127.0.0.1:8080", "HTTP API of the agent")
	dns := flag.String("dns", "127.0.0.1:8600", "name server of the agent")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *agent, *dns, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "register:", err)
		os.Exit(1)
	}
}

// service is a service file as it also could lie in services.d. An app that
// listens would add a check: [{tcp: "127.0.0.1:9001", interval: 2s}].
const service = `service: {id: ticker-1, name: ticker, protocol: http, port: 9001, params: {weight: "50"}}`

// run registers the service, looks it up and takes it back.
func run(ctx context.Context, agent, dns string, out io.Writer) error {
	var res struct {
		IDs []string `json:"ids"`
	}
	if err := ask(ctx, "PUT", agent+"/v1/registrations", service, &res); err != nil {
		return err
	}
	fmt.Fprintf(out, "registered %s\n", strings.Join(res.IDs, ", "))

	// A host whose resolver forwards the zone to the agent needs no Dial.
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, dns)
	}}
	srv, err := lookUp(ctx, &resolver, "ticker.service.paddock")
	if err != nil {
		return err
	}
	for _, s := range srv {
		addrs, err := resolver.LookupHost(ctx, s.Target)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "found ticker at %s port %d, weight %d\n", strings.Join(addrs, ", "), s.Port, s.Weight)
	}

	for _, id := range res.IDs {
		if err := ask(ctx, "DELETE", agent+"/v1/registrations/"+url.PathEscape(id), "", nil); err != nil {
			return err
		}
		fmt.Fprintf(out, "deregistered %s\n", id)
	}
	return nil
}

// lookUp waits a moment for the name to appear: a registration is a write to
// the ensemble, and every agent hears of it a few milliseconds later.
func lookUp(ctx context.Context, r *net.Resolver, name string) ([]*net.SRV, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		_, srv, err := r.LookupSRV(ctx, "", "", name)
		if err == nil {
			return srv, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func ask(ctx context.Context, method, url, body string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, text)
	}
	if answer == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}
