package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/storage/postgres"
)

// clientView is a client as the commands print it, by the names of RFC 7591 §2
// and RFC 9449 §5.2 where those have one.
type clientView struct {
	ID          string              `json:"client_id"`
	Secret      string              `json:"client_secret,omitempty"` // only where it was just made
	AuthMethod  authz.AuthMethod    `json:"token_endpoint_auth_method"`
	TokenFormat authz.TokenFormat   `json:"token_format"`
	BoundTokens bool                `json:"dpop_bound_access_tokens"`
	Nonce       bool                `json:"require_nonce"`
	DPoPKeys    authz.DPoPKeyPolicy `json:"dpop_keys,omitempty"` // where it is not any
	Grants      map[string][]string `json:"grants"`
	Introspects []string            `json:"introspects"`
	tlsView
	JWKSURI    string          `json:"jwks_uri,omitempty"`
	Keys       []clientKeyView `json:"keys,omitempty"`
	CreatedAt  time.Time       `json:"created_at"`
	DisabledAt *time.Time      `json:"disabled_at,omitempty"`
}

func viewClient(c *authz.Client) clientView {
	v := clientView{
		ID: c.ID, AuthMethod: c.AuthMethod, TokenFormat: c.TokenFormat, BoundTokens: !c.AllowBearer, Nonce: c.RequireNonce,
		tlsView: viewTLS(c), JWKSURI: c.JWKSURI, Keys: viewClientKeys(c),
		Grants: map[string][]string{}, Introspects: append([]string{}, c.Introspects...), CreatedAt: c.CreatedAt,
	}
	if c.DPoPKeys != authz.AnyKey {
		v.DPoPKeys = c.DPoPKeys
	}
	for _, g := range c.Grants {
		v.Grants[g.Resource] = g.Scopes
	}
	if c.Disabled() {
		v.DisabledAt = &c.DisabledAt
	}
	return v
}

func (v clientView) state() string {
	if v.DisabledAt != nil {
		return "disabled"
	}
	return "enabled"
}

func (v clientView) text(w io.Writer) {
	fmt.Fprintf(w, "client_id      %s\n", v.ID)
	if v.Secret != "" {
		fmt.Fprintf(w, "client_secret  %s   (shown this once; it is not stored)\n", v.Secret)
	}
	fmt.Fprintf(w, "state          %s\nauth method    %s\ntoken format   %s\ntokens         %s\ncreated        %s\n",
		v.state(), v.AuthMethod, v.TokenFormat, tokensOf(v),
		v.CreatedAt.Format(time.RFC3339))
	if v.Nonce {
		fmt.Fprintf(w, "nonce          required\n")
	}
	if v.DPoPKeys != "" {
		fmt.Fprintf(w, "DPoP keys      %s\n", v.DPoPKeys)
	}
	for _, resource := range slices.Sorted(maps.Keys(v.Grants)) {
		fmt.Fprintf(w, "grant          %s=%s\n", resource, strings.Join(v.Grants[resource], ",")) // as --grant takes it
	}
	v.tlsView.text(w)
	keyLines(w, v.Keys, v.JWKSURI)
	for _, resource := range v.Introspects {
		fmt.Fprintf(w, "introspects    %s\n", resource)
	}
}

func (p *program) clientCommand() *cobra.Command {
	return group("client", "Register the services that ask for tokens, and gateways",
		"  authz client create label-service --grant https://labels.example.com=label:create",
		p.clientCreate(), p.clientList(), p.clientShow(),
		p.clientSwitch("disable", "Refuse a client, and all tokens it has, from now on", authz.AuditClientDisabled),
		p.clientSwitch("enable", "Admit a disabled client again; its tokens from before stay inactive", authz.AuditClientEnabled),
		p.clientRotateSecret(), p.clientSecrets(), p.clientBehaviour(),
		p.clientNewKey(), p.clientUpdate(), p.clientEnrolKey(), p.clientKeys(), p.clientRemoveKey(),
		p.clientDelete())
}

type clientFlags struct {
	grants      []string
	introspects []string
	authMethod  string
	tls         tlsFlags
	tokenFormat string
	allowBearer bool
	nonce       bool
	dpopKeys    string
	keys        keyFlags
}

func (p *program) clientCreate() *cobra.Command {
	var f clientFlags
	c := &cobra.Command{
		Use: "create NAME", Short: "Register a client; NAME becomes its client_id", Args: oneArgument,
		Long: `Register a client. NAME becomes its client_id. Its secret is printed once, now, and
is not stored: 256 random bits, of which the database keeps a digest. A client with a
certificate of its own, by tls_client_auth or self_signed_tls_client_auth, has none; nor
has one that signs with a key of its own, by private_key_jwt. Of keys only the public
half comes here.`,
		Example: `  authz client create label-service --grant https://labels.example.com=label:create,label:read
  authz client create edge-gateway --introspects https://labels.example.com
  authz client create mesh-gateway --introspects https://labels.example.com \
    --auth-method tls_client_auth --tls-san-uri spiffe://example.com/gateway
  authz client create rate-service --grant https://rates.example.com=rate:read \
    --auth-method private_key_jwt --jwks rate-service.public.jwks`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := f.client(args[0])
			if err != nil {
				return err
			}
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				var secret authz.Secret
				if client.AuthMethod == authz.ClientSecretBasic || client.AuthMethod == authz.ClientSecretPost {
					secret = authz.NewSecret()
					client.Secrets = []authz.Digest{secret.Digest()}
				}
				v, err := registerClient(ctx, s, client)
				if err != nil {
					return err
				}
				v.Secret = secret.Reveal()
				if err := p.print(v, v.text); err != nil || !client.CertificateBound {
					return err
				}
				// What its resources admit is read with it.
				if client, err = s.Client(ctx, client.ID, now()); err != nil {
					return about("client", args[0], fmt.Errorf("it is registered, but what its resources admit cannot be read: %w", err))
				}
				p.warnUnbindable(client)
				return nil
			})
		},
	}
	c.Flags().StringArrayVar(&f.grants, "grant", nil, "URI=scope,scope: what it may ask of a resource; repeatable")
	c.Flags().StringArrayVar(&f.introspects, "introspects", nil, "URI: a resource that it fronts as a gateway, and whose tokens it may introspect; repeatable")
	c.Flags().StringVar(&f.authMethod, "auth-method", string(authz.ClientSecretBasic), "client_secret_basic, client_secret_post, private_key_jwt, tls_client_auth or self_signed_tls_client_auth")
	f.tls.flags(c)
	c.Flags().StringVar(&f.tokenFormat, "token-format", string(authz.FormatJWT), "jwt or opaque")
	c.Flags().BoolVar(&f.nonce, "require-nonce", false, "its proofs must carry the server's nonce, whatever AUTHZ_DPOP_NONCE says")
	c.Flags().BoolVar(&f.allowBearer, "allow-bearer", false, "let it have bearer tokens for resources that admit them")
	c.Flags().StringVar(&f.dpopKeys, "dpop-keys", string(authz.AnyKey), "any, enrolled or first-use: which DPoP keys it may have tokens for")
	f.keys.flags(c)
	complete(c, "dpop-keys", authz.DPoPKeyPolicies())
	complete(c, "auth-method", authz.AuthMethods())
	complete(c, "token-format", authz.TokenFormats())
	return c
}

// completeFiles offers the names of files to the shell.
func completeFiles(c *cobra.Command, flag string) {
	if err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)); err != nil {
		panic(err) // a flag that is not there: a mistake of this program
	}
}

// complete offers values to the shell.
func complete[T ~string](c *cobra.Command, flag string, values []T) {
	var list []string
	for _, v := range values {
		list = append(list, string(v))
	}
	if err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // a flag that is not there: a mistake of this program
	}
}

func (f *clientFlags) client(id string) (*authz.Client, error) {
	set, err := f.keys.read()
	if err != nil {
		return nil, err
	}
	c := &authz.Client{
		ID: id, AuthMethod: authz.AuthMethod(f.authMethod), TokenFormat: authz.TokenFormat(f.tokenFormat),
		AllowBearer: f.allowBearer, RequireNonce: f.nonce, DPoPKeys: authz.DPoPKeyPolicy(f.dpopKeys), Introspects: f.introspects,
		TLSName: f.tls.name, CertificateBound: f.tls.bound,
		JWKS: set, JWKSURI: f.keys.uri,
	}
	for _, text := range f.grants {
		// A URI may hold an equals sign, a scope list in front of none.
		at := strings.LastIndex(text, "=")
		if at < 1 || at == len(text)-1 {
			return nil, fmt.Errorf("--grant %q: write URI=scope,scope", text)
		}
		c.Grants = append(c.Grants, authz.Grant{Resource: text[:at], Scopes: strings.Split(text[at+1:], ",")})
	}
	return c, c.Validate()
}

// registerClient registers a client, whose secrets its caller has made.
func registerClient(ctx context.Context, s *postgres.Store, c *authz.Client) (clientView, error) {
	event := operatorEvent(authz.AuditClientCreated)
	c.CreatedAt = event.At
	v := viewClient(c)
	event.Detail = map[string]any{"grants": v.Grants, "introspects": v.Introspects, "allow_bearer": c.AllowBearer, "require_nonce": c.RequireNonce,
		"auth_method": c.AuthMethod, "token_format": c.TokenFormat, "dpop_keys": c.DPoPKeys}
	for _, secret := range c.Secrets {
		event.Detail["credential"] = secret.Name()
	}
	if tls := viewTLS(c); c.TLSName != (authz.CertificateName{}) {
		event.Detail["tls"] = tls
	}
	if c.CertificateBound {
		event.Detail["certificate_bound"] = true
	}
	if c.JWKS != nil || c.JWKSURI != "" {
		maps.Copy(event.Detail, keyDetail(c))
	}
	if err := s.CreateClient(ctx, c, event); err != nil {
		return clientView{}, about("client", c.ID, err)
	}
	return v, nil
}

func (p *program) clientList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the clients", Args: cobra.NoArgs,
		Example: "  authz client list --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				clients, err := s.Clients(ctx, now())
				if err != nil {
					return err
				}
				views := []clientView{}
				for _, c := range clients {
					views = append(views, viewClient(c))
				}
				return p.print(views, func(w io.Writer) {
					t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
					fmt.Fprintln(t, "CLIENT\tSTATE\tAUTH METHOD\tFORMAT\tGRANTS\tINTROSPECTS")
					for _, v := range views {
						fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\n", v.ID, v.state(), v.AuthMethod, v.TokenFormat, len(v.Grants), len(v.Introspects))
					}
					t.Flush()
				})
			})
		},
	}
}

func (p *program) clientShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show a client", Args: oneArgument,
		Example: "  authz client show label-service",
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				c, err := s.Client(ctx, args[0], now())
				if err != nil {
					return about("client", args[0], err)
				}
				v := viewClient(c)
				return p.print(v, v.text)
			})
		},
	}
}

func (p *program) clientSwitch(use, short string, kind authz.AuditKind) *cobra.Command {
	return &cobra.Command{
		Use: use + " ID", Short: short, Args: oneArgument,
		Example: "  authz client " + use + " label-service",
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				if err := s.SetClientDisabled(ctx, args[0], kind == authz.AuditClientDisabled, operatorEvent(kind)); err != nil {
					return about("client", args[0], err)
				}
				return p.print(map[string]string{use + "d": args[0]}, func(w io.Writer) { fmt.Fprintln(w, use+"d", args[0]) })
			})
		},
	}
}

func (p *program) clientDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete ID", Short: "Delete a client; its tokens are inactive from now on", Args: oneArgument,
		Example: "  authz client delete label-service",
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.operate(cmd.Context(), func(ctx context.Context, s *postgres.Store) error {
				if err := s.DeleteClient(ctx, args[0], operatorEvent(authz.AuditClientDeleted)); err != nil {
					return about("client", args[0], err)
				}
				return p.print(map[string]string{"deleted": args[0]}, func(w io.Writer) { fmt.Fprintln(w, "deleted", args[0]) })
			})
		},
	}
}
