package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

func (p *program) healthcheckCommand() *cobra.Command {
	var address string
	c := &cobra.Command{
		Use: "healthcheck", Short: "Exit with 0 when the server on this machine is ready", Args: cobra.NoArgs,
		Long:    `Ask /readyz on the internal listener, by default the one of AUTHZ_INTERNAL_LISTEN.`,
		Example: "  authz healthcheck",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if address == "" {
				config, err := readConfig()
				if err != nil {
					return err
				}
				address = config.InternalListen
			}
			return p.healthcheck(cmd.Context(), address)
		},
	}
	c.Flags().StringVar(&address, "address", "", "host:port of the internal listener")
	return c
}

func (p *program) healthcheck(ctx context.Context, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("the internal listener: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1" // listening everywhere is listening here
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return err
	}
	var state struct {
		Status string `json:"status"`
		Reason string `json:"reason,omitempty"`
	}
	// A proxy of the environment has no part in a look at this machine.
	if err := fetchJSON(&http.Client{Transport: &http.Transport{}}, request, &state); err != nil {
		return fmt.Errorf("the server does not answer: %w", err)
	}
	if state.Status != "ready" {
		return fmt.Errorf("the server is %s: %s", cmp.Or(state.Status, "not what was expected"), state.Reason)
	}
	return p.print(state, func(w io.Writer) { fmt.Fprintln(w, state.Status) })
}

// fetchJSON reads an answer of bounded size, whatever its status.
func fetchJSON(client *http.Client, request *http.Request, into any) error {
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s answered %s, and not in JSON", request.URL, response.Status)
	}
	return nil
}
