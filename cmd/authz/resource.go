package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/jwks"
	"github.com/cargokey/authz/storage/postgres"
)

// resourceView is a resource as the commands print it.
type resourceView struct {
	URI         string        `json:"resource"`
	Scopes      []string      `json:"scopes"`
	TokenTTL    int           `json:"token_ttl"` // seconds
	AllowBearer bool          `json:"allow_bearer"`
	Certificate bool          `json:"allow_certificate_bound"`
	Nonce       bool          `json:"require_nonce"`
	SigningAlg  string        `json:"signing_alg,omitempty"` // none: the server's default
	BaseURLs    []string      `json:"base_urls"`
	Routes      []authz.Route `json:"routes"`
	CreatedAt   time.Time     `json:"created_at"`
	UpdatedAt   time.Time     `json:"updated_at"`
}

func viewResource(r *authz.Resource) resourceView {
	return resourceView{
		r.URI, r.Scopes, int(r.TokenTTL / time.Second), r.AllowBearer, r.AllowCertificateBound, r.RequireNonce, string(r.SigningAlg),
		append([]string{}, r.BaseURLs...), append([]authz.Route{}, r.Routes...), r.CreatedAt, r.UpdatedAt,
	}
}

// terms are what was chosen for it that is not so by itself.
func (v resourceView) terms() string {
	var terms []string
	for _, one := range []struct {
		name string
		is   bool
	}{{"bearer", v.AllowBearer}, {"certificate-bound", v.Certificate}, {"nonce", v.Nonce}, {v.SigningAlg, v.SigningAlg != ""}} {
		if one.is {
			terms = append(terms, one.name)
		}
	}
	if terms == nil {
		return "-"
	}
	return strings.Join(terms, " ")
}

func (v resourceView) text(w io.Writer) {
	fmt.Fprintf(w, "resource      %s\nscopes        %s\ntoken ttl     %s\nallow bearer  %t\ncreated       %s\nupdated       %s\n",
		v.URI, strings.Join(v.Scopes, " "), time.Duration(v.TokenTTL)*time.Second, v.AllowBearer,
		v.CreatedAt.Format(time.RFC3339), v.UpdatedAt.Format(time.RFC3339))
	if v.Certificate {
		fmt.Fprintf(w, "certificates  tokens may be bound to one\n")
	}
	if v.Nonce {
		fmt.Fprintf(w, "nonce         required\n")
	}
	if v.SigningAlg != "" {
		fmt.Fprintf(w, "signing alg   %s\n", v.SigningAlg)
	}
	for _, base := range v.BaseURLs {
		fmt.Fprintf(w, "base url      %s\n", base)
	}
	for _, route := range v.Routes {
		fmt.Fprintf(w, "route         %s\n", route)
	}
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
	certificate bool
	nonce       bool
	signingAlg  string
	baseURLs    []string
	routes      []string
	routesFile  string
}

// resourceChanges are the flags that change something.
var resourceChanges = []string{"scope", "ttl", "allow-bearer", "allow-certificate-bound", "require-nonce", "signing-alg", "base-url", "route", "routes"}

func (f *resourceFlags) register(c *cobra.Command) {
	c.Flags().StringSliceVar(&f.scopes, "scope", nil, "scopes that the resource defines, comma-separated; repeatable")
	c.Flags().DurationVar(&f.ttl, "ttl", authz.DefaultTokenTTL, "lifetime of its tokens: 1s to 1h")
	c.Flags().BoolVar(&f.allowBearer, "allow-bearer", false, "admit tokens that are bound to no key, for clients that are allowed them too")
	c.Flags().BoolVar(&f.certificate, "allow-certificate-bound", false, "admit tokens that are bound to a client's certificate and to no key, for clients that are registered so")
	c.Flags().BoolVar(&f.nonce, "require-nonce", false, "calls through a gateway must carry the server's nonce, whatever AUTHZ_DPOP_NONCE says")
	c.Flags().StringVar(&f.signingAlg, "signing-alg", "", "what its tokens are signed by: ES256, EdDSA, PS256 or RS256; empty for AUTHZ_SIGNING_ALG")
	c.Flags().StringArrayVar(&f.baseURLs, "base-url", nil, "a public URL that callers reach it at, through its gateway; repeatable")
	c.Flags().StringArrayVar(&f.routes, "route", nil, `"METHOD PATH SCOPE…": what a call through a gateway needs, below the base URL; repeatable`)
	c.Flags().StringVar(&f.routesFile, "routes", "", "a file with such routes, one a line, or - for standard input")
	completeFiles(c, "routes")
}

// check refuses what a Resource would take for "the default".
func (f *resourceFlags) check() error {
	if f.ttl == 0 {
		return fmt.Errorf("--ttl is 0s; it may be 1s to %s", authz.MaxTokenTTL)
	}
	return nil
}

// parseRoutes reads those of both flags. In a file, empty lines and lines that
// begin with # do not count.
func (f *resourceFlags) parseRoutes(stdin io.Reader) ([]authz.Route, error) {
	var routes []authz.Route
	for _, text := range f.routes {
		r, err := authz.ParseRoute(text)
		if err != nil {
			return nil, fmt.Errorf("--route: %w", err)
		}
		routes = append(routes, r)
	}
	if f.routesFile == "" {
		return routes, nil
	}
	in := stdin
	if f.routesFile != "-" {
		file, err := os.Open(f.routesFile)
		if err != nil {
			return nil, fmt.Errorf("--routes: %w", err)
		}
		defer file.Close()
		in = file
	}
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		r, err := authz.ParseRoute(line)
		if err != nil {
			return nil, fmt.Errorf("--routes, line %d: %w", n, err)
		}
		routes = append(routes, r)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("--routes: %w", err)
	}
	return routes, nil
}

func (p *program) resourceCreate() *cobra.Command {
	var f resourceFlags
	c := &cobra.Command{
		Use: "create URI", Short: "Register a resource", Args: oneArgument,
		Example: `  authz resource create https://labels.example.com --scope label:create,label:read --ttl 5m
  authz resource create https://rates.example.com --scope rate:read --base-url https://api.example.com/rates \
    --route 'GET /quotes/{id} rate:read'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			event := operatorEvent(authz.AuditResourceCreated)
			routes, err := f.parseRoutes(cmd.InOrStdin())
			if err != nil {
				return err
			}
			r := &authz.Resource{
				URI: args[0], Scopes: f.scopes, TokenTTL: f.ttl, AllowBearer: f.allowBearer, AllowCertificateBound: f.certificate,
				RequireNonce: f.nonce, SigningAlg: jwks.Algorithm(f.signingAlg), BaseURLs: f.baseURLs, Routes: routes,
				CreatedAt: event.At, UpdatedAt: event.At,
			}
			if err := r.Validate(); err != nil {
				return err
			}
			event.Detail = resourceDetail(r)
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
					fmt.Fprintln(t, "RESOURCE\tSCOPES\tTTL\tTERMS")
					for _, v := range views {
						fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", v.URI, strings.Join(v.Scopes, " "), time.Duration(v.TokenTTL)*time.Second, v.terms())
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
		Long: `Change what the flags say and leave the rest. --scope, --base-url, and --route with
--routes replace the whole list; --base-url '' and an empty file of routes empty it. A
scope that a client still has cannot be removed. Tokens already issued keep their scopes and
their lifetime.`,
		Example: `  authz resource update https://labels.example.com --ttl 15m
  authz resource update https://labels.example.com --base-url https://api.example.com/labels`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.ContainsFunc(resourceChanges, cmd.Flags().Changed) {
				return errors.New("nothing to change: give --" + strings.Join(resourceChanges, ", --"))
			}
			if err := f.check(); err != nil {
				return err
			}
			routes, err := f.parseRoutes(cmd.InOrStdin())
			if err != nil {
				return err
			}
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				r, err := s.Resource(ctx, args[0])
				if err != nil {
					return about("resource", args[0], err)
				}
				f.apply(cmd, r, routes)
				event := operatorEvent(authz.AuditResourceUpdated)
				r.UpdatedAt = event.At
				if err := r.Validate(); err != nil {
					return err
				}
				event.Detail = resourceDetail(r)
				if err := s.UpdateResource(ctx, r, event); err != nil {
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

// apply changes r by the flags that were given.
func (f *resourceFlags) apply(cmd *cobra.Command, r *authz.Resource, routes []authz.Route) {
	given := cmd.Flags().Changed
	if given("scope") {
		r.Scopes = f.scopes
	}
	if given("ttl") {
		r.TokenTTL = f.ttl
	}
	if given("allow-bearer") {
		r.AllowBearer = f.allowBearer
	}
	if given("allow-certificate-bound") {
		r.AllowCertificateBound = f.certificate
	}
	if given("require-nonce") {
		r.RequireNonce = f.nonce
	}
	if given("signing-alg") {
		r.SigningAlg = jwks.Algorithm(f.signingAlg)
	}
	if given("base-url") {
		r.BaseURLs = slices.DeleteFunc(slices.Clone(f.baseURLs), func(u string) bool { return u == "" })
	}
	if given("route") || given("routes") {
		r.Routes = routes
	}
}

// resourceDetail is what an audit event tells of a resource.
func resourceDetail(r *authz.Resource) map[string]any {
	routes := []string{}
	for _, route := range r.Routes {
		routes = append(routes, route.String())
	}
	return map[string]any{
		"scopes": r.Scopes, "token_ttl": int(r.TokenTTL / time.Second), "allow_bearer": r.AllowBearer,
		"allow_certificate_bound": r.AllowCertificateBound,
		"require_nonce":           r.RequireNonce, "signing_alg": string(r.SigningAlg), "base_urls": r.BaseURLs, "routes": routes,
	}
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
