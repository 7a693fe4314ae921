package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/pgdev"
	"github.com/cargokey/authz/jwks"
)

type devFlags struct {
	listen         string
	internalListen string
	data           string
	fresh          bool
}

func (p *program) devCommand() *cobra.Command {
	var f devFlags
	c := &cobra.Command{
		Use: "dev", Short: "Run everything, ready to try: a private Postgres, a server, a demo client", Args: cobra.NoArgs,
		Long: `Start a private Postgres, make a signing key, register a demo resource, client and
gateway, serve, and print what to paste. It needs no configuration and nothing but,
at most, a Postgres on the machine; where there is none it fetches one.

It uses AUTHZ_DATABASE_URL where that is set. State is kept between runs, and so is what
an operator changes in it: a secret that was rotated is not brought back. It is for
trying things on one machine: it listens on loopback only, without TLS.`,
		Example: "  authz dev\n  authz dev --listen 127.0.0.1:9000 --fresh",
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.dev(cmd.Context(), f) },
	}
	c.Flags().StringVar(&f.listen, "listen", "127.0.0.1:8080", "address to serve on, loopback only")
	c.Flags().StringVar(&f.internalListen, "internal-listen", "", "address for /healthz, /readyz, /metrics and /gateway/verify (default 127.0.0.1:9090, or a free port where that is taken)")
	c.Flags().StringVar(&f.data, "data", "", "folder for the state (default: in the user's state folder)")
	c.Flags().BoolVar(&f.fresh, "fresh", false, "remove the state of earlier runs first")
	if err := c.MarkFlagDirname("data"); err != nil {
		panic(err) // a flag that is not there: a mistake of this program
	}
	return c
}

// devView is the one line of --json.
type devView struct {
	Issuer                string `json:"issuer"`
	TokenEndpoint         string `json:"token_endpoint"`
	IntrospectionEndpoint string `json:"introspection_endpoint"`
	RevocationEndpoint    string `json:"revocation_endpoint"`
	JWKSURI               string `json:"jwks_uri"`
	InternalURL           string `json:"internal_url"`
	ClientID              string `json:"client_id"`
	ClientSecret          string `json:"client_secret"` // empty: rotated, and not known here; so is the gateway's
	GatewayClientID       string `json:"gateway_client_id"`
	GatewayClientSecret   string `json:"gateway_client_secret"`
	DatabaseURL           string `json:"database_url"`
}

func (p *program) dev(ctx context.Context, f devFlags) (err error) {
	ctx, cancel := endWithGoRun(ctx)
	defer cancel()
	c, err := p.readConfig()
	if err != nil {
		return err
	}
	p.warnUnused()
	given, err := f.givenDatabase(c)
	if err != nil {
		return err
	}
	public, internal, err := f.listeners()
	if err != nil {
		return err
	}
	defer public.Close()
	defer internal.Close()
	dir, err := f.dataFolder()
	if err != nil {
		return err
	}
	pg, err := pgdev.Start(ctx, pgdev.Options{URL: given, Dir: filepath.Join(dir, "postgres"), Fresh: f.fresh})
	if err != nil && given == "" {
		return fmt.Errorf("%w (the state is in %s; --data names another folder)", err, dir)
	}
	if err != nil {
		return fmt.Errorf("%s is set, and there is no Postgres to use: unset it, and authz dev starts its own: %w", c.databaseVariable(), err)
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		err = errors.Join(err, pg.Stop(stopping))
	}()
	demo, err := prepareDemo(ctx, pg.URL(), dir, f.fresh)
	if err != nil {
		return whoseKeys(err, given)
	}
	issuer := "http://" + public.Addr().String()
	view := demo.view(issuer, "http://"+internal.Addr().String(), pg.URL())
	p.warnRotated(view)
	c.LogFormat = "text"
	if p.json {
		c.LogFormat = "json"
	}
	if c.LogLevel == slog.LevelInfo {
		c.LogLevel = slog.LevelWarn // the page is what there is to read
	}
	i := &instance{
		config: authz.Config{
			Issuer: issuer, ProofLifetime: authz.DefaultProofLifetime, ClockSkew: authz.DefaultClockSkew,
			TokenEndpointAliases: loopbackAliases(public.Addr()),
			Sealer:               demo.sealer, Log: slog.New(c.logHandler(p.err)),
			NonceSecrets: [][]byte{demo.SealingKey}, RequireNonce: c.DpopNonce == "required",
			SigningAlgorithm: jwks.Algorithm(c.SigningAlg), KeyRotation: c.KeyRotation, KeyPublishAhead: c.KeyPublishAhead,
		},
		databaseURL: pg.URL(), public: public, internal: internal,
	}
	return i.run(ctx, func() error {
		return p.print(view, func(w io.Writer) { fmt.Fprint(w, devPage(view, devDatabase{describeDatabase(pg), given == "", dir})) })
	})
}

// warnRotated names the demo clients whose secret an operator has made another, as
// after a theft: the one of before is not brought back, and the new one is known to
// the operator only.
func (p *program) warnRotated(v devView) {
	for _, c := range []struct{ id, secret string }{{v.ClientID, v.ClientSecret}, {v.GatewayClientID, v.GatewayClientSecret}} {
		if c.secret == "" {
			p.warn("the secret of " + c.id + " was rotated, and the new one is not known here; authz client rotate-secret " + c.id + " makes another one")
		}
	}
}

// warnUnused names the variables of "authz serve" that are set and count for
// nothing here.
func (p *program) warnUnused() {
	used := []string{"AUTHZ_DATABASE_URL", "AUTHZ_DATABASE_URL_FILE", "AUTHZ_DPOP_NONCE", "AUTHZ_LOG_LEVEL",
		"AUTHZ_SIGNING_ALG", "AUTHZ_KEY_ROTATION", "AUTHZ_KEY_PUBLISH_AHEAD"}
	for _, v := range variables() {
		if os.Getenv(v.name) != "" && !slices.Contains(used, v.name) {
			p.warn("authz dev does not use " + v.name)
		}
	}
}

// givenDatabase is the URL of a Postgres to use as it is; empty: none.
func (f devFlags) givenDatabase(c *config) (string, error) {
	if c.DatabaseURL == "" && c.DatabaseURLFile == "" {
		return "", nil
	}
	if f.fresh {
		return "", errors.New("--fresh does not empty the database that AUTHZ_DATABASE_URL names, and without its sealing key it is of no use: name an empty database, or unset the variable")
	}
	return c.database()
}

// whoseKeys says what to do about signing keys that demo.json does not open.
func whoseKeys(err error, given string) error {
	switch {
	case !errors.Is(err, jwks.ErrSealedByAnother):
		return err
	case given != "":
		return fmt.Errorf("another server's signing keys are in the database that AUTHZ_DATABASE_URL names: name an empty database, or by --data the folder it was used with: %w", err)
	default:
		return fmt.Errorf("demo.json is not the one that this database was made with: start over with --fresh: %w", err)
	}
}

// listeners opens both first: a port that is taken is found out before
// anything is started.
func (f devFlags) listeners() (public, internal net.Listener, err error) {
	if public, err = loopbackListener("--listen", f.listen); err != nil {
		return nil, nil, err
	}
	if internal, err = f.internalListener(); err != nil {
		public.Close()
		return nil, nil, err
	}
	return public, internal, nil
}

// internalListener takes the port that the examples of gateways name, if it can.
func (f devFlags) internalListener() (net.Listener, error) {
	if f.internalListen != "" {
		return loopbackListener("--internal-listen", f.internalListen)
	}
	if l, err := net.Listen("tcp", "127.0.0.1:9090"); err == nil {
		return l, nil
	}
	return loopbackListener("--internal-listen", "127.0.0.1:0")
}

func loopbackListener(flag, address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("%s %q: write host:port, such as 127.0.0.1:8080", flag, address)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%s %q: authz dev listens on loopback only, such as 127.0.0.1:8080; for more use authz serve", flag, address)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; choose another port with %s", flag, err, flag)
	}
	return l, nil
}

// loopbackAliases lets a client say localhost for the address.
func loopbackAliases(a net.Addr) []string {
	_, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return nil
	}
	return []string{"http://localhost:" + port + "/oauth/token"}
}

// dataFolder is where the state is kept, made if missing, open to its owner
// only.
func (f devFlags) dataFolder() (string, error) {
	dir := f.data
	if dir == "" {
		state := os.Getenv("XDG_STATE_HOME")
		if state == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return "", errors.New("there is no home folder to keep state in: name a folder with --data")
			}
			state = filepath.Join(home, ".local", "state")
		}
		dir = filepath.Join(state, "authz-dev")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("making the state folder: %w; name another one with --data", err)
	}
	return dir, nil
}
