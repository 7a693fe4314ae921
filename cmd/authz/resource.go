package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/storage/postgres"
)

// resourceView is a resource as the commands print it.
type resourceView struct {
	URI         string    `json:"resource"`
	Scopes      []string  `json:"scopes"`
	TokenTTL    int       `json:"token_ttl"` // seconds
	AllowBearer bool      `json:"allow_bearer"`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
}

func viewResource(r *authz.Resource) resourceView {
	return resourceView{r.URI, r.Scopes, int(r.TokenTTL / time.Second), r.AllowBearer, r.CreatedAt, r.UpdatedAt}
}

func (v resourceView) text(w io.Writer) {
	fmt.Fprintf(w, "resource      %s\nscopes        %s\ntoken ttl     %s\nallow bearer  %t\ncreated       %s\nupdated       %s\n",
		v.URI, strings.Join(v.Scopes, " "), time.Duration(v.TokenTTL)*time.Second, v.AllowBearer,
		v.CreatedAt.Format(time.RFC3339), v.UpdatedAt.Format(time.RFC3339))
}

func (p *program) resourceCommand() *cobra.Command {
	return group("resource", "Register the APIs that tokens are for",
		"  authz resource create https://labels.example.com --scope label:create,label:read",
		p.resourceCreate(), p.resourceList(), p.resourceShow(), p.resourceUpdate(), p.resourceDelete())
}

type resourceFlags struct {
	scopes      []string
	ttl         time.Duration
	allowBearer bool
}

func (f *resourceFlags) register(c *cobra.Command) {
	c.Flags().StringSliceVar(&f.scopes, "scope", nil, "scopes that the resource defines, comma-separated; repeatable")
	c.Flags().DurationVar(&f.ttl, "ttl", authz.DefaultTokenTTL, "lifetime of its tokens: 1s to 1h")
	c.Flags().BoolVar(&f.allowBearer, "allow-bearer", false, "admit tokens that are bound to no key, for clients that are allowed them too")
}

// check refuses what a Resource would take for "the default".
func (f *resourceFlags) check() error {
	if f.ttl == 0 {
		return fmt.Errorf("--ttl is 0s; it may be 1s to %s", authz.MaxTokenTTL)
	}
	return nil
}

func (p *program) resourceCreate() *cobra.Command {
	var f resourceFlags
	c := &cobra.Command{
		Use: "create URI", Short: "Register a resource", Args: oneArgument,
		Example: "  authz resource create https://labels.example.com --scope label:create,label:read --ttl 5m",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			event := operatorEvent(authz.AuditResourceCreated)
			r := &authz.Resource{
				URI: args[0], Scopes: f.scopes, TokenTTL: f.ttl, AllowBearer: f.allowBearer,
				CreatedAt: event.At, UpdatedAt: event.At,
			}
			if err := r.Validate(); err != nil {
				return err
			}
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				if err := s.CreateResource(ctx, r, event); err != nil {
					return about("resource", r.URI, err)
				}
				v := viewResource(r)
				return p.print(v, v.text)
			})
		},
	}
	f.register(c)
	return c
}

func (p *program) resourceList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the resources", Args: cobra.NoArgs,
		Example: "  authz resource list --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				resources, err := s.Resources(ctx)
				if err != nil {
					return err
				}
				views := []resourceView{}
				for _, r := range resources {
					views = append(views, viewResource(r))
				}
				return p.print(views, func(w io.Writer) {
					t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
					fmt.Fprintln(t, "RESOURCE\tSCOPES\tTTL\tBEARER")
					for _, v := range views {
						fmt.Fprintf(t, "%s\t%s\t%s\t%t\n", v.URI, strings.Join(v.Scopes, " "), time.Duration(v.TokenTTL)*time.Second, v.AllowBearer)
					}
					t.Flush()
				})
			})
		},
	}
}

func (p *program) resourceShow() *cobra.Command {
	return &cobra.Command{
		Use: "show URI", Short: "Show a resource", Args: oneArgument,
		Example: "  authz resource show https://labels.example.com",
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				r, err := s.Resource(ctx, args[0])
				if err != nil {
					return about("resource", args[0], err)
				}
				v := viewResource(r)
				return p.print(v, v.text)
			})
		},
	}
}

func (p *program) resourceUpdate() *cobra.Command {
	var f resourceFlags
	c := &cobra.Command{
		Use: "update URI", Short: "Change a resource", Args: oneArgument,
		Long: `Change what the flags say and leave the rest. --scope replaces the whole list; a
scope that a client still has cannot be removed. Tokens already issued keep their
scopes and their lifetime.`,
		Example: "  authz resource update https://labels.example.com --ttl 15m",
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.ContainsFunc([]string{"scope", "ttl", "allow-bearer"}, cmd.Flags().Changed) {
				return errors.New("nothing to change: give --scope, --ttl or --allow-bearer")
			}
			if err := f.check(); err != nil {
				return err
			}
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				r, err := s.Resource(ctx, args[0])
				if err != nil {
					return about("resource", args[0], err)
				}
				event := operatorEvent(authz.AuditResourceUpdated)
				if cmd.Flags().Changed("scope") {
					r.Scopes = f.scopes
				}
				if cmd.Flags().Changed("ttl") {
					r.TokenTTL = f.ttl
				}
				if cmd.Flags().Changed("allow-bearer") {
					r.AllowBearer = f.allowBearer
				}
				r.UpdatedAt = event.At
				if err := r.Validate(); err != nil {
					return err
				}
				event.Detail = map[string]any{"scopes": r.Scopes, "token_ttl": int(r.TokenTTL / time.Second), "allow_bearer": r.AllowBearer}
				if err := s.UpdateResource(ctx, r, event); err != nil {
					return about("a scope of resource", r.URI, err)
				}
				v := viewResource(r)
				return p.print(v, v.text)
			})
		},
	}
	f.register(c)
	return c
}

func (p *program) resourceDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete URI", Short: "Delete a resource that no client has a grant of or introspects", Args: oneArgument,
		Example: "  authz resource delete https://labels.example.com",
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				if err := s.DeleteResource(ctx, args[0], operatorEvent(authz.AuditResourceDeleted)); err != nil {
					return about("resource", args[0], err)
				}
				return p.print(map[string]string{"deleted": args[0]}, func(w io.Writer) { fmt.Fprintln(w, "deleted", args[0]) })
			})
		},
	}
}
