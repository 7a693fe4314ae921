package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/storage/postgres"
)

const dpopKeyRevoked = "revoked"

// dpopKeyView is an enrolled key as the commands print it.
type dpopKeyView struct {
	JKT        string     `json:"jkt"`
	State      string     `json:"state"` // in force, ended or revoked
	EnrolledAt time.Time  `json:"enrolled_at"`
	EnrolledBy string     `json:"enrolled_by"`
	EndsAt     *time.Time `json:"ends_at,omitempty"`
}

func viewDPoPKey(k authz.DPoPKey, now time.Time) dpopKeyView {
	v := dpopKeyView{JKT: k.JKT, State: "in force", EnrolledAt: k.EnrolledAt, EnrolledBy: k.EnrolledBy}
	if !k.EndsAt.IsZero() {
		v.EndsAt = &k.EndsAt
	}
	switch {
	case k.Revoked:
		v.State = dpopKeyRevoked
	case v.EndsAt != nil && !v.EndsAt.After(now):
		v.State = "ended"
	}
	return v
}

func (p *program) clientEnrolKey() *cobra.Command {
	var file, jkt, until string
	c := &cobra.Command{
		Use: "enroll-key ID (--jwk FILE | --jkt THUMBPRINT)", Short: "Enrol a DPoP key of a client", Args: oneArgument,
		Long: `Enrol a DPoP key of a client, by a file with its JWK or by its RFC 7638 SHA-256
thumbprint. A key that is enrolled already gets the end that is given now. It counts
where the client's policy is enrolled or first-use: see authz client update.`,
		Example: `  authz client enroll-key label-service --jwk label-service.jwk
  authz client enroll-key label-service --jkt 0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I --until 720h`,
		RunE: func(cmd *cobra.Command, args []string) error {
			jkt, err := thumbprintOf(file, jkt)
			if err != nil {
				return err
			}
			event := operatorEvent(authz.AuditDPoPKeyEnrolled)
			key := authz.DPoPKey{JKT: jkt, EnrolledAt: event.At, EnrolledBy: event.Actor}
			if key.EndsAt, err = readUntil(until, event.At); err != nil {
				return err
			}
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				v := viewDPoPKey(key, event.At)
				event.Detail = map[string]any{"by": key.EnrolledBy, "ends_at": v.EndsAt}
				if err := s.EnrolKey(ctx, args[0], key, event); err != nil {
					return about("client "+args[0]+", key", jkt, err)
				}
				return p.print(v, func(w io.Writer) { fmt.Fprintf(w, "enrolled %s for %s\n", jkt, args[0]) })
			})
		},
	}
	c.Flags().StringVar(&file, "jwk", "", "FILE: the key's JWK, or a set of one; the public half will do")
	c.Flags().StringVar(&jkt, "jkt", "", "THUMBPRINT: the key's name, 43 characters")
	c.Flags().StringVar(&until, "until", "", "when it ends: a time such as 2030-01-31T00:00:00Z, or a duration such as 720h; empty: never")
	completeFiles(c, "jwk")
	return c
}

// thumbprintOf takes a key's name from one of the two.
func thumbprintOf(file, jkt string) (string, error) {
	switch {
	case (file == "") == (jkt == ""):
		return "", errors.New("name the key by one of: --jwk, --jkt")
	case jkt != "" && !authz.ValidJKT(jkt):
		return "", notAThumbprint(jkt)
	case jkt != "":
		return jkt, nil
	}
	return thumbprintIn(file)
}

func notAThumbprint(jkt string) error {
	return fmt.Errorf("%q is not the thumbprint of a key: the base64url encoding of its RFC 7638 SHA-256, 43 characters", jkt)
}

// readUntil reads a moment or how long from now on; the zero time is never.
func readUntil(until string, now time.Time) (time.Time, error) {
	if until == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, until)
	if err != nil {
		d, notDuration := time.ParseDuration(until)
		if notDuration != nil {
			return time.Time{}, fmt.Errorf("--until %q: write a time such as 2030-01-31T00:00:00Z, or a duration such as 720h", until)
		}
		at = now.Add(d)
	}
	if !at.After(now) {
		return time.Time{}, fmt.Errorf("--until %q has passed", until)
	}
	return at.UTC().Truncate(time.Microsecond), nil
}

func (p *program) clientKeys() *cobra.Command {
	return &cobra.Command{
		Use: "keys ID", Short: "List the DPoP keys of a client: who enrolled or vouched for each, and when it ends", Args: oneArgument,
		Example: "  authz client keys label-service --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				if _, err := s.Client(ctx, args[0], now()); err != nil {
					return about("client", args[0], err)
				}
				keys, err := s.DPoPKeys(ctx, args[0])
				if err != nil {
					return err
				}
				views := []dpopKeyView{}
				for _, k := range keys {
					views = append(views, viewDPoPKey(k, now()))
				}
				return p.print(views, func(w io.Writer) { dpopKeyTable(w, views) })
			})
		},
	}
}

func dpopKeyTable(w io.Writer, views []dpopKeyView) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "JKT\tSTATE\tENROLLED\tBY\tENDS")
	for _, v := range views {
		ends := "never"
		switch {
		case v.State == dpopKeyRevoked:
			ends = "revoked, for good"
		case v.EndsAt != nil:
			ends = v.EndsAt.Format(time.RFC3339)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", v.JKT, v.State, v.EnrolledAt.Format(time.RFC3339), v.EnrolledBy, ends)
	}
	t.Flush()
}

func (p *program) clientRemoveKey() *cobra.Command {
	return &cobra.Command{
		Use: "remove-key ID JKT", Short: "End a DPoP key of a client: it gets no more tokens for it", Args: cobra.ExactArgs(2),
		Long: `End a DPoP key of a client: it gets no more tokens for it. Tokens that are bound to it
live on until they expire; where the key is in other hands, revoke it instead: authz
token revoke --jkt. The key stays in the list, as one that has ended.`,
		Example: "  authz client remove-key label-service 0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, jkt := args[0], args[1]
			if !authz.ValidJKT(jkt) {
				return notAThumbprint(jkt)
			}
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				if err := s.RemoveKey(ctx, id, jkt, operatorEvent(authz.AuditDPoPKeyRemoved)); err != nil {
					return about("client "+id+", key in force", jkt, err)
				}
				return p.print(map[string]string{"client_id": id, "removed": jkt}, func(w io.Writer) { fmt.Fprintf(w, "removed %s of %s\n", jkt, id) })
			})
		},
	}
}
