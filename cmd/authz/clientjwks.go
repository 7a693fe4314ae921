package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/clientcert"
	"github.com/cargokey/authz/storage/postgres"
)

// keyFlags say which public keys a client authenticates by.
type keyFlags struct {
	files []string
	uri   string
}

func (f *keyFlags) flags(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.files, "jwks", nil, "FILE: its public keys, a JWK set or PEM certificates, for private_key_jwt and self_signed_tls_client_auth; repeatable")
	c.Flags().StringVar(&f.uri, "jwks-uri", "", "URL: where it publishes them instead; https")
	completeFiles(c, "jwks")
	c.MarkFlagsMutuallyExclusive("jwks", "jwks-uri")
}

// read returns the set of the keys in all files, nil where none is named.
func (f *keyFlags) read() ([]byte, error) {
	if len(f.files) == 0 {
		return nil, nil
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	for _, file := range f.files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--jwks: %w", err)
		}
		keys, err := keysIn(text)
		if err != nil {
			return nil, fmt.Errorf("--jwks: %s: %w", file, err)
		}
		set.Keys = append(set.Keys, keys...)
	}
	return json.Marshal(set)
}

// keysIn reads a JWK set, whose keys are judged where they are registered, or
// certificates.
func keysIn(text []byte) ([]json.RawMessage, error) {
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("-----BEGIN ")) {
		return clientcert.JWKs(text)
	}
	var set struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("neither a JWK set nor PEM certificates: %w", err)
	}
	if len(set.Keys) == 0 {
		return nil, errors.New(`a JWK set has "keys"; a single JWK goes into {"keys": […]}`)
	}
	return set.Keys, nil
}

// clientKeyView is a registered key as the commands print it.
type clientKeyView struct {
	KID         string           `json:"kid,omitempty"`
	Thumbprint  string           `json:"thumbprint"`
	Certificate *certificateView `json:"certificate,omitempty"` // the one that it is registered with
}

type certificateView struct {
	Subject   string    `json:"subject"` // RFC 4514; empty: it has none
	ExpiresAt time.Time `json:"expires_at"`
}

func viewClientKeys(c *authz.Client) (views []clientKeyView) {
	for _, k := range c.Keys() {
		v := clientKeyView{KID: k.KID, Thumbprint: k.Thumbprint}
		if k.Certificate != nil {
			v.Certificate = &certificateView{k.Certificate.Subject.String(), k.Certificate.NotAfter.UTC()}
		}
		views = append(views, v)
	}
	return views
}

func keyLines(w io.Writer, keys []clientKeyView, uri string) {
	for _, k := range keys {
		switch k.KID {
		case "":
			fmt.Fprintf(w, "key            thumbprint %s\n", k.Thumbprint)
		case k.Thumbprint:
			fmt.Fprintf(w, "key            kid and thumbprint %s\n", k.Thumbprint)
		default:
			fmt.Fprintf(w, "key            kid %s thumbprint %s\n", k.KID, k.Thumbprint)
		}
		if c := k.Certificate; c != nil {
			fmt.Fprintf(w, "  certificate  %q, until %s\n", c.Subject, c.ExpiresAt.Format(time.RFC3339))
		}
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
