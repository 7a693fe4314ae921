package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/dpopbind"
)

// publicSet is what a client's operator hands to the server's (RFC 7517 §5).
type publicSet struct {
	Keys []map[string]any `json:"keys"`
}

func (p *program) clientNewKey() *cobra.Command {
	return &cobra.Command{
		Use: "new-key FILE", Short: "Make a key for private_key_jwt: the private JWK into FILE, the public set to standard output", Args: oneArgument,
		Long: `Make a key for a client to authenticate by, with private_key_jwt. The private JWK is
written to FILE, which only its owner can read and which must not be there yet; it
belongs where the client runs, and nowhere else. The public half is printed as a JWK
set, for authz client create --jwks. It connects to nothing.`,
		Example: `  authz client new-key rate-service.jwk >rate-service.public.jwks
  authz client create rate-service --grant https://rates.example.com=rate:read \
    --auth-method private_key_jwt --jwks rate-service.public.jwks`,
		RunE: func(_ *cobra.Command, args []string) error {
			key, err := dpopbind.GenerateKey()
			if err != nil {
				return err
			}
			private, err := key.MarshalPrivateJWK()
			if err != nil {
				return err
			}
			// The kid is the thumbprint, which is also what the audit trail calls it.
			if private, err = withMembers(private, map[string]any{"kid": key.JKT()}); err != nil {
				return err
			}
			public, err := withMembers(key.PublicJWK(), map[string]any{"kid": key.JKT(), "alg": key.Algorithm(), "use": "sig"})
			if err != nil {
				return err
			}
			var set publicSet
			if err := json.Unmarshal([]byte(`{"keys":[`+string(public)+`]}`), &set); err != nil {
				return err
			}
			if err := writeNew(args[0], append(private, '\n')); err != nil {
				return fmt.Errorf("writing the key: %w", err)
			}
			return p.print(set, func(w io.Writer) { _ = json.NewEncoder(w).Encode(set) })
		},
	}
}

// withMembers adds members to a JSON object.
func withMembers(object []byte, members map[string]any) ([]byte, error) {
	all := map[string]any{}
	if err := json.Unmarshal(object, &all); err != nil {
		return nil, err
	}
	for name, value := range members {
		all[name] = value
	}
	return json.Marshal(all)
}
