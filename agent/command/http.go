package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/paddockio/paddock/agent/api"
)

// defaultHTTP is where an agent's API is if nothing else is said.
const defaultHTTP = "http://127.0.0.1:8080"

// maxAnswer bounds an answer of the API.
const maxAnswer = 256 << 20

// addHTTPFlag adds -http to a command that asks a running agent.
func addHTTPFlag(cmd *cobra.Command) *cobra.Command {
	base := os.Getenv("PADDOCK_HTTP")
	if base == "" {
		base = defaultHTTP
	}
	cmd.Flags().String("http", base, "`URL` of the agent's API (PADDOCK_HTTP)")
	return cmd
}

// ask sends one request to the agent and decodes its answer into v, if not nil.
func ask(cmd *cobra.Command, method, path string, body []byte, v any) error {
	base, err := cmd.Flags().GetString("http")
	if err != nil {
		return err
	}
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return usagef("-http wants a URL such as %s, got %q", defaultHTTP, base)
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(base, "/")+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/yaml") // JSON is YAML too
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return fmt.Errorf("no agent answers at %s: %w", base, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("answer of %s: %w", base, err)
	case len(data) > maxAnswer:
		return fmt.Errorf("answer of %s: more than %d bytes", base, maxAnswer)
	case resp.StatusCode >= 300:
		var e api.Error
		if json.Unmarshal(data, &e) != nil || e.Error == "" {
			e.Error = fmt.Sprintf("%s %s: %s", method, path, resp.Status)
		}
		return errors.New(e.Error)
	case v == nil:
		return nil
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("answer of %s to %s: %w: is that a paddock agent?", base, path, err)
	}
	return nil
}
