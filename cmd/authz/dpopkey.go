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

func (p *program) dpopKeyCommand() *cobra.Command {
	return group("dpop-key", "Make, name and replace a client's DPoP key, where the client runs",
		"  authz dpop-key new label-service.jwk", p.dpopKeyNew(), p.dpopKeyThumbprint(), p.dpopKeyEndorse())
}

// keyName is a DPoP key as the commands print it.
type keyName struct {
	JKT string `json:"jkt"`
}

func (p *program) printThumbprint(jkt string) error {
	return p.print(keyName{jkt}, func(w io.Writer) { fmt.Fprintln(w, jkt) })
}

func (p *program) dpopKeyNew() *cobra.Command {
	return &cobra.Command{
		Use: "new FILE", Short: "Make a DPoP key: the private JWK into FILE, its thumbprint to standard output", Args: oneArgument,
		Long: `Make a DPoP key. The private JWK is written to FILE, which only its owner can read and
which must not be there yet; it belongs where the client runs, and nowhere else. Its
thumbprint is what an operator enrols it by. It connects to nothing: no server sees the
key before it is enrolled.`,
		Example: `  authz dpop-key new label-service.jwk
  authz client enroll-key label-service --jkt THUMBPRINT`,
		ValidArgsFunction: fileArgument,
		RunE: func(_ *cobra.Command, args []string) error {
			key, err := dpopbind.GenerateKey()
			if err != nil {
				return err
			}
			private, err := key.MarshalPrivateJWK()
			if err != nil {
				return err
			}
			err = writeNew(args[0], append(private, '\n'))
			if errors.Is(err, os.ErrExist) {
				return fmt.Errorf("writing the key: %w, and stays as it is; authz dpop-key thumbprint %s names it", err, args[0])
			}
			if err != nil {
				return fmt.Errorf("writing the key: %w", err)
			}
			return p.printThumbprint(key.JKT())
		},
	}
}

func (p *program) dpopKeyThumbprint() *cobra.Command {
	return &cobra.Command{
		Use: "thumbprint FILE", Short: "Print the name of a key: the RFC 7638 SHA-256 thumbprint of its JWK", Args: oneArgument,
		Example:           "  authz dpop-key thumbprint label-service.jwk",
		ValidArgsFunction: fileArgument,
		RunE: func(_ *cobra.Command, args []string) error {
			jkt, err := thumbprintIn(args[0])
			if err != nil {
				return err
			}
			return p.printThumbprint(jkt)
		},
	}
}

// thumbprintIn names the one key in a file: a JWK, private or public, or a set.
func thumbprintIn(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("reading a JWK: %w", err)
	}
	var set struct{ Keys []json.RawMessage }
	if json.Unmarshal(text, &set) == nil && set.Keys != nil {
		if len(set.Keys) != 1 {
			return "", fmt.Errorf("%s is a JWK set, of %d keys: write the one that is meant into a file of its own", file, len(set.Keys))
		}
		text = set.Keys[0]
	}
	if private, err := dpopbind.ParseKey(text); err == nil {
		return private.JKT(), nil
	}
	jkt, err := dpopbind.Thumbprint(text)
	if err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	return jkt, nil
}
