package main

import (
	"context"
	"encoding/json"
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

// tokenRequest is what "authz request" asks for.
type tokenRequest struct {
	issuer, clientID, clientSecret string
	scope, resource                string
	authMethod                     string
	keyFile                        string
	bearer                         bool
}

func (p *program) requestCommand() *cobra.Command {
	var r tokenRequest
	c := &cobra.Command{
		Use: "request", Short: "Be a client: get a token, bound to a key, and print it", Args: cobra.NoArgs,
		Long: `Discover the server, make a DPoP key (or take the one in --key), prove possession of
it, and print the token on standard output. With --json, print the whole answer.

--key FILE is a private JWK; where there is no such file, the new key is written
there, for later requests with the token.`,
		Example: `  authz request --issuer https://auth.example.com --client-id label-service \
    --client-secret @/run/secrets/label-service --scope label:create`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if r.clientSecret, err = p.argument(r.clientSecret); err != nil {
				return err
			}
			return p.request(cmd.Context(), r)
		},
	}
	f := c.Flags()
	f.StringVar(&r.issuer, "issuer", "", "the server's issuer URL")
	f.StringVar(&r.clientID, "client-id", "", "the client's ID")
	f.StringVar(&r.clientSecret, "client-secret", "", "its secret; @FILE reads it from a file, - from standard input")
	f.StringVar(&r.scope, "scope", "", "scopes, space-separated; none: all that is granted")
	f.StringVar(&r.resource, "resource", "", "the resource, where the scopes do not tell")
	f.StringVar(&r.authMethod, "auth-method", string(authz.ClientSecretBasic), "client_secret_basic or client_secret_post")
	f.StringVar(&r.keyFile, "key", "", "the DPoP key, a private JWK")
	f.BoolVar(&r.bearer, "bearer", false, "send no proof: ask for a bearer token")
	complete(c, "auth-method", authz.AuthMethods())
	completeFiles(c, "key")
	for _, name := range []string{"issuer", "client-id", "client-secret"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // a flag that is not there: a mistake of this program
		}
	}
	return c
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

// answer is the token endpoint's, of either kind.
type answer struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int64  `json:"expires_in"`
	Scope       string `json:"scope"`
	JKT         string `json:"jkt,omitempty"` // ours: what the token is bound to

	Error       string `json:"error,omitempty"`
	Description string `json:"error_description,omitempty"`
}

func (p *program) request(ctx context.Context, r tokenRequest) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client := &http.Client{
		// A redirect would carry the secret to where it does not belong.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	endpoint, err := discover(ctx, client, r.issuer)
	if err != nil {
		return err
	}
	var key *dpopbind.Key
	if !r.bearer {
		if key, err = dpopKey(r.keyFile); err != nil {
			return err
		}
	}
	a, err := r.ask(ctx, client, endpoint, key)
	if err != nil {
		return fmt.Errorf("asking for a token: %w", err)
	}
	if a.Error != "" {
		return fmt.Errorf("the server refused: %s: %s", a.Error, a.Description)
	}
	if a.AccessToken == "" {
		return errors.New("the server's answer has no access_token")
	}
	if key != nil {
		a.JKT = key.JKT()
		if !strings.EqualFold(a.TokenType, "DPoP") { // RFC 9449 §5
			return fmt.Errorf("the server issued a token of type %q, bound to no key: it does not know DPoP", a.TokenType)
		}
	}
	return p.print(a, func(w io.Writer) {
		fmt.Fprintln(w, a.AccessToken)
		bound := "bound to no key"
		if a.JKT != "" {
			bound = "bound to key " + a.JKT
		}
		fmt.Fprintf(p.err, "token_type %s, %s, scope %q, expires in %ds\n", a.TokenType, bound, a.Scope, a.ExpiresIn)
	})
}

// ask sends the request, and once more where the server demands a nonce.
func (r tokenRequest) ask(ctx context.Context, client *http.Client, endpoint string, key *dpopbind.Key) (answer, error) {
	nonce := ""
	for {
		var a answer
		request, err := r.build(ctx, endpoint, key, nonce)
		if err != nil {
			return a, err
		}
		response, err := fetchJSON(client, request, &a)
		if err != nil {
			return a, err
		}
		given := response.Header.Get("DPoP-Nonce")
		if a.Error != "use_dpop_nonce" || nonce != "" || given == "" { // RFC 9449 §8
			return a, nil
		}
		nonce = given
	}
}

// build makes the request. A redirect is never followed, so what it carries
// goes to the endpoint alone.
func (r tokenRequest) build(ctx context.Context, endpoint string, key *dpopbind.Key, nonce string) (*http.Request, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	if r.scope != "" {
		form.Set("scope", r.scope)
	}
	if r.resource != "" {
		form.Set("resource", r.resource)
	}
	if r.authMethod == string(authz.ClientSecretPost) {
		form.Set("client_id", r.clientID)
		form.Set("client_secret", r.clientSecret)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")
	if r.authMethod != string(authz.ClientSecretPost) {
		// RFC 6749 §2.3.1: each half form-encoded first.
		request.SetBasicAuth(url.QueryEscape(r.clientID), url.QueryEscape(r.clientSecret))
	}
	if key != nil {
		proof, err := key.Proof(http.MethodPost, endpoint, time.Now(), dpopbind.ProofOptions{Nonce: nonce})
		if err != nil {
			return nil, err
		}
		request.Header.Set("DPoP", proof)
	}
	return request, nil
}

// discover finds the token endpoint (RFC 8414 §3).
func discover(ctx context.Context, client *http.Client, issuer string) (string, error) {
	u, err := url.Parse(issuer)
	if err != nil || !u.IsAbs() || u.Host == "" {
		return "", fmt.Errorf("--issuer %q is not an absolute URL", issuer)
	}
	path := u.Path
	u.Path = "/.well-known/oauth-authorization-server" + strings.TrimSuffix(path, "/")
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", err
	}
	var metadata struct {
		Issuer        string `json:"issuer"`
		TokenEndpoint string `json:"token_endpoint"`
	}
	response, err := fetchJSON(client, request, &metadata)
	if err != nil {
		return "", fmt.Errorf("discovering the server: %w", err)
	}
	if response.StatusCode != http.StatusOK || metadata.TokenEndpoint == "" {
		return "", fmt.Errorf("discovering the server: %s answered %s, and no metadata of an authorization server", u, response.Status)
	}
	if metadata.Issuer != issuer { // RFC 8414 §3.3
		return "", fmt.Errorf("the server at %s says its issuer is %q: use that one", issuer, metadata.Issuer)
	}
	return metadata.TokenEndpoint, nil
}

// fetchJSON reads an answer of bounded size, whatever its status.
func fetchJSON(client *http.Client, request *http.Request, into any) (*http.Response, error) {
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return nil, fmt.Errorf("%s answered %s, and not in JSON", request.URL, response.Status)
	}
	return response, nil
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
