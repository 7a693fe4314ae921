package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
)

// tokenRequest is what "authz request" asks for, and what "authz curl" needs.
type tokenRequest struct {
	issuer, clientID, clientSecret string
	scope, resource                string
	authMethod                     string
	keyFile, clientKeyFile         string
	bearer                         bool
	tls                            clientTLS
}

func (p *program) requestCommand() *cobra.Command {
	var r tokenRequest
	c := &cobra.Command{
		Use: "request", Short: "Be a client: get a token, bound to a key, and print it", Args: cobra.NoArgs,
		Long: `Discover the server, make a DPoP key (or take the one in --key), prove possession of
it, and print the token on standard output. With --json, print the whole answer.

--key FILE is a private JWK; where there is no such file, the new key is written
there, for later requests with the token. Without --key the key is thrown away, and
the token can be looked at but not used.

--cert shows a certificate in the handshake: to authenticate by, where there is neither
a secret nor a key, and for tokens that are bound to it, which come with --bearer.`,
		Example: `  authz request --issuer https://auth.example.com --client-id label-service \
    --client-secret @/run/secrets/label-service --scope label:create
  authz request --issuer https://auth.example.com --client-id rate-service \
    --client-key /run/secrets/rate-service.jwk
  authz request --issuer https://auth.example.com --client-id tracking --ca ca.pem \
    --cert tracking.pem --cert-key tracking.key --bearer`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if r.clientSecret, err = p.argument(r.clientSecret); err != nil {
				return err
			}
			return p.request(cmd.Context(), r)
		},
	}
	r.flags(c)
	return c
}

// flags are those of a command that gets a token.
func (r *tokenRequest) flags(c *cobra.Command) {
	r.credentialFlags(c)
	f := c.Flags()
	f.StringVar(&r.scope, "scope", "", "scopes, space-separated; none: all that is granted")
	f.StringVar(&r.resource, "resource", "", "the resource, where the scopes do not tell")
	f.StringVar(&r.keyFile, "key", "", "the DPoP key, a private JWK")
	f.BoolVar(&r.bearer, "bearer", false, "send no proof: ask for a bearer token, or for one that is bound to the certificate")
	completeFiles(c, "key")
	c.MarkFlagsMutuallyExclusive("key", "bearer")
}

// credentialFlags are those of a command that is a client.
func (r *tokenRequest) credentialFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&r.issuer, "issuer", "", "the server's issuer URL")
	f.StringVar(&r.clientID, "client-id", "", "the client's ID")
	f.StringVar(&r.clientSecret, "client-secret", "", "its secret; @FILE reads it from a file, - from standard input")
	f.StringVar(&r.clientKeyFile, "client-key", "", "instead of a secret, the key that it authenticates by, a private JWK")
	f.StringVar(&r.authMethod, "auth-method", "", "a client's, as in authz client create; without it client_secret_basic, private_key_jwt or tls_client_auth, by what is given")
	r.tls.flags(c)
	complete(c, "auth-method", authz.AuthMethods())
	completeFiles(c, "client-key")
	c.MarkFlagsOneRequired("client-secret", "client-key", "cert")
	c.MarkFlagsMutuallyExclusive("client-secret", "client-key")
	for _, name := range []string{"issuer", "client-id"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // a flag that is not there: a mistake of this program
		}
	}
}

// argument reads a value that is better not on a command line.
func (p *program) argument(text string) (string, error) {
	var read []byte
	var err error
	switch {
	case text == "-":
		read, err = io.ReadAll(io.LimitReader(p.in, 1<<20))
	case strings.HasPrefix(text, "@"):
		read, err = os.ReadFile(text[1:])
	default:
		return text, nil
	}
	if err != nil {
		return "", fmt.Errorf("reading a secret: %w", err)
	}
	return strings.TrimSpace(string(read)), nil
}

// answer is the token as it is printed.
type answer struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int64  `json:"expires_in"`
	Scope       string `json:"scope"`
	JKT         string `json:"jkt,omitempty"` // what the token is bound to
}

func (p *program) request(ctx context.Context, r tokenRequest) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	start := time.Now()
	client, err := r.client(dpopbind.ClientConfig{Now: func() time.Time { return start }})
	if err != nil {
		return refusal(err)
	}
	token, err := client.Token(ctx)
	if err != nil {
		return r.keyRefused(err)
	}
	a := answer{AccessToken: token.AccessToken, TokenType: token.Type, Scope: token.Scope, JKT: token.JKT}
	if !token.Expiry.IsZero() {
		a.ExpiresIn = int64(token.Expiry.Sub(start) / time.Second)
	}
	return p.print(a, func(w io.Writer) {
		fmt.Fprintln(w, a.AccessToken)
		bound := "bound to no key"
		switch {
		case a.JKT != "":
			bound = "bound to key " + a.JKT
		case r.tls.certFile != "":
			bound += ", and to the certificate if the client is registered so"
		}
		fmt.Fprintf(p.err, "token_type %s, %s, scope %q, expires in %ds\n", a.TokenType, bound, a.Scope, a.ExpiresIn)
	})
}

// client completes cfg by what the flags say.
func (r *tokenRequest) client(cfg dpopbind.ClientConfig) (*dpopbind.Client, error) {
	cfg, err := r.credentials(cfg)
	if err != nil {
		return nil, err
	}
	cfg.Scope, cfg.Resource = strings.Fields(r.scope), r.resource
	if r.bearer {
		cfg.Policy, cfg.Transport = dpopbind.Prefer, withoutProof{cfg.Transport}
		return dpopbind.NewClient(cfg)
	}
	// A configuration that is refused leaves no key behind.
	if _, err := dpopbind.NewClient(cfg); err != nil {
		return nil, err
	}
	if cfg.Key, err = dpopKey(r.keyFile); err != nil {
		return nil, err
	}
	return dpopbind.NewClient(cfg)
}

// credentials completes cfg by what credentialFlags say.
func (r *tokenRequest) credentials(cfg dpopbind.ClientConfig) (dpopbind.ClientConfig, error) {
	if u, err := url.Parse(r.issuer); err != nil || !u.IsAbs() || u.Host == "" {
		return cfg, fmt.Errorf("--issuer %q is not an absolute URL", r.issuer)
	}
	cfg.Issuer, cfg.ClientID, cfg.ClientSecret = r.issuer, r.clientID, r.clientSecret
	cfg.AuthMethod, cfg.MutualTLS = dpopbind.AuthMethod(r.authMethod), r.tls.certFile != ""
	if r.authMethod == "" && r.clientSecret == "" && r.clientKeyFile == "" {
		cfg.AuthMethod = dpopbind.TLSClientAuth // as for a self-signed one: the request is the same
	}
	var err error
	if r.clientKeyFile != "" {
		if cfg.ClientKey, err = readKey(r.clientKeyFile); err != nil {
			return cfg, fmt.Errorf("--client-key %w", err)
		}
	}
	cfg.Transport, err = r.tls.transport()
	return cfg, err
}

// withoutProof makes a client one that does not know DPoP.
type withoutProof struct{ transport http.RoundTripper }

func (w withoutProof) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Del("DPoP")
	return w.transport.RoundTrip(r)
}

// keyRefused adds to a refusal of a request's DPoP key which one that is.
func (r *tokenRequest) keyRefused(err error) error {
	var refused *dpopbind.TokenError
	if !errors.As(err, &refused) || refused.Code != "unauthorized_client" || !strings.Contains(refused.Description, "DPoP key") {
		return refusal(err)
	}
	if r.bearer || r.keyFile == "" {
		return fmt.Errorf("%w\n  name the DPoP key that is enrolled by --key; without it a new one is made for each request", refusal(err))
	}
	key, unread := readKey(r.keyFile)
	if unread != nil {
		return refusal(err)
	}
	return fmt.Errorf("%w\n  the DPoP key is %s: an operator enrols it by authz client enroll-key %s --jkt=%s",
		refusal(err), key.JKT(), r.clientID, key.JKT())
}

// refusal says what the server said, where it is that that failed.
func refusal(err error) error {
	var refused *dpopbind.TokenError
	if errors.As(err, &refused) && refused.Code != "" {
		return fmt.Errorf("the server refused: %s: %s", refused.Code, refused.Description)
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	return errors.New(strings.TrimPrefix(err.Error(), "dpopbind: "))
}

// readKey reads a private JWK.
func readKey(file string) (*dpopbind.Key, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	key, err := dpopbind.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return key, nil
}

// dpopKey reads the key in file, or makes one, and keeps it where file says.
func dpopKey(file string) (*dpopbind.Key, error) {
	if file != "" {
		text, err := os.ReadFile(file)
		if err == nil {
			key, err := dpopbind.ParseKey(text)
			if err != nil {
				return nil, fmt.Errorf("--key %s: %w", file, err)
			}
			return key, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("--key: %w", err)
		}
	}
	key, err := dpopbind.GenerateKey()
	if err != nil || file == "" {
		return key, err
	}
	text, err := key.MarshalPrivateJWK()
	if err != nil {
		return nil, err
	}
	if err := writeNew(file, append(text, '\n')); err != nil {
		return nil, fmt.Errorf("--key: %w", err)
	}
	return key, nil
}

// writeNew writes a file that only its owner can read and that was not there.
func writeNew(file string, text []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}
