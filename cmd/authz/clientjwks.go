package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/storage/postgres"
)

// keyFlags say which public keys a client authenticates by.
type keyFlags struct{ file, uri string }

func (f *keyFlags) flags(c *cobra.Command) {
	c.Flags().StringVar(&f.file, "jwks", "", "FILE: its public keys, a JWK set, for private_key_jwt and self_signed_tls_client_auth")
	c.Flags().StringVar(&f.uri, "jwks-uri", "", "URL: where it publishes them instead; https")
	completeFiles(c, "jwks")
	c.MarkFlagsMutuallyExclusive("jwks", "jwks-uri")
}

// read returns the set in the file, nil where none is named.
func (f *keyFlags) read() ([]byte, error) {
	if f.file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(f.file)
	if err != nil {
		return nil, fmt.Errorf("--jwks: %w", err)
	}
	return text, nil
}

// clientKeyView is a registered key as the commands print it.
type clientKeyView struct {
	KID        string `json:"kid,omitempty"`
	Thumbprint string `json:"thumbprint"`
}

func viewClientKeys(c *authz.Client) (views []clientKeyView) {
	for _, k := range c.Keys() {
		views = append(views, clientKeyView{k.KID, k.Thumbprint})
	}
	return views
}

func keyLines(w io.Writer, keys []clientKeyView, uri string) {
	for _, k := range keys {
		kid := k.KID
		if kid == "" {
			kid = "(no kid)"
		}
		fmt.Fprintf(w, "key            %s %s\n", k.Thumbprint, kid)
	}
	if uri != "" {
		fmt.Fprintf(w, "keys           %s\n", uri)
	}
}

// replaceKeys is "authz client update" with either of the flags.
func (p *program) replaceKeys(ctx context.Context, id string, f keyFlags) error {
	set, err := f.read()
	if err != nil {
		return err
	}
	return p.operate(ctx, func(ctx context.Context, s *postgres.Store) error {
		c, err := s.Client(ctx, id, now())
		if err != nil {
			return about("client", id, err)
		}
		if err := c.ReplaceKeys(set, f.uri); err != nil {
			return err
		}
		event := operatorEvent(authz.AuditClientUpdated)
		event.Detail = keyDetail(c)
		if err := s.SetClientKeys(ctx, id, c.JWKS, c.KeyNames, c.JWKSURI, event); err != nil {
			return about("client", id, err)
		}
		v := viewClient(c)
		return p.print(v, func(w io.Writer) {
			fmt.Fprintf(w, "updated %s\n", id)
			keyLines(w, v.Keys, v.JWKSURI)
		})
	})
}

// keyDetail is what the audit trail says of a client's keys.
func keyDetail(c *authz.Client) map[string]any {
	if c.JWKSURI != "" {
		return map[string]any{"jwks_uri": c.JWKSURI}
	}
	return map[string]any{"keys": c.KeyNames}
}
