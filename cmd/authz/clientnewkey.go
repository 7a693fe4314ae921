package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/dpopbind"
)

// publicSet is what a client's operator hands to the server's (RFC 7517 §5).
type publicSet struct {
	Keys []map[string]any `json:"keys"`
}

func (p *program) clientNewKey() *cobra.Command {
	var public bool
	c := &cobra.Command{
		Use: "new-key FILE", Short: "Make a key for private_key_jwt: the private JWK into FILE, the public set to standard output", Args: oneArgument,
		Long: `Make a key for a client to authenticate by, with private_key_jwt. The private JWK is
written to FILE, which only its owner can read and which must not be there yet; it
belongs where the client runs, and nowhere else. The public half is printed as a JWK
set, for authz client create --jwks. It connects to nothing.

With --public, FILE is there, and nothing is made: its public half is printed again.`,
		Example: `  authz client new-key rate-service.jwk >rate-service.public.jwks
  authz client new-key --public rate-service.jwk
  authz client create rate-service --grant https://rates.example.com=rate:read \
    --auth-method private_key_jwt --jwks rate-service.public.jwks`,
		RunE: func(_ *cobra.Command, args []string) error {
			file := args[0]
			if public {
				key, err := readKey(file)
				if err != nil {
					return fmt.Errorf("reading the key: %w", err)
				}
				return p.printPublic(key)
			}
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
			err = writeNew(file, append(private, '\n'))
			if errors.Is(err, os.ErrExist) {
				return fmt.Errorf("writing the key: %w, and stays as it is; authz client new-key --public %s prints its public half", err, file)
			}
			if err != nil {
				return fmt.Errorf("writing the key: %w", err)
			}
			return p.printPublic(key)
		},
	}
	c.Flags().BoolVar(&public, "public", false, "print the public half of the key that FILE has")
	c.ValidArgsFunction = fileArgument
	return c
}

// printPublic prints a key's public half as a set.
func (p *program) printPublic(key *dpopbind.Key) error {
	kid := key.KID()
	if kid == "" {
		kid = key.JKT()
	}
	public, err := withMembers(key.PublicJWK(), map[string]any{"kid": kid, "alg": key.Algorithm(), "use": "sig"})
	if err != nil {
		return err
	}
	var set publicSet
	if err := json.Unmarshal([]byte(`{"keys":[`+string(public)+`]}`), &set); err != nil {
		return err
	}
	return p.print(set, func(w io.Writer) { _ = json.NewEncoder(w).Encode(set) })
}

// fileArgument offers the names of files to the shell.
func fileArgument(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
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
