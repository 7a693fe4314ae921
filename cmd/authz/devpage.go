package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cargokey/authz/internal/pgdev"
)

// devPage is what a newcomer reads.
func devPage(v devView, database, dir string) string {
	return fmt.Sprintf(`authz dev is ready. Ctrl-C stops everything.

  issuer    %s
  internal  %s  (/healthz /readyz /metrics /gateway/verify)
  resource  %s  scopes CXS label:create label:read
            behind a gateway at %s (see examples/gateway)
  client    %s   secret %s
  gateway   %s  secret %s
  state     %s  (kept between runs; --fresh starts over)
  database  %s

Paste these in another terminal, in this folder:

1. As the client, get a token that is bound to a new key:

TOKEN=$(%s request --issuer %s --client-id %s --client-secret %s --scope label:create); echo "$TOKEN"

2. As the gateway, introspect it; cnf.jkt is the key it is bound to:

curl -s -u %s:%s -d token="$TOKEN" %s; echo

3. As the client, revoke it; then run the second command again:

curl -s -u %s:%s -d token="$TOKEN" %s -w 'revoked: %%{http_code}\n'

`,
		v.Issuer, v.InternalURL, demoResource, demoBaseURLs()[0],
		v.ClientID, v.ClientSecret, v.GatewayClientID, v.GatewayClientSecret, dir, database,
		thisCommand(), v.Issuer, v.ClientID, v.ClientSecret,
		v.GatewayClientID, v.GatewayClientSecret, v.IntrospectionEndpoint,
		v.ClientID, v.ClientSecret, v.RevocationEndpoint)
}

// describeDatabase says which one it is, and how the operator's commands reach
// it. A URL that was given is not repeated: it may hold a password.
func describeDatabase(given string, pg *pgdev.Postgres) string {
	const indent = "\n            "
	text := strings.ReplaceAll(pg.Source(), ", ", ","+indent)
	if given != "" {
		return text
	}
	return text + indent + "AUTHZ_DATABASE_URL=" + shellQuote(pg.URL())
}

// thisCommand is how the reader ran this program: a build that "go run" made
// may be gone from where it lies as soon as it ends.
func thisCommand() string {
	if builtByGoRun() {
		return "go run ./cmd/authz"
	}
	return shellQuote(os.Args[0])
}

func builtByGoRun() bool {
	self, err := os.Executable()
	return err == nil && strings.Contains(filepath.ToSlash(self), "/go-build")
}

// endWithGoRun ends the context with the go tool, where that runs this program:
// it takes Ctrl-C with it, but a signal to the tool alone leaves it an orphan.
func endWithGoRun(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if !builtByGoRun() {
		return ctx, cancel
	}
	parent := os.Getppid()
	go func() {
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for os.Getppid() == parent {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
		cancel()
	}()
	return ctx, cancel
}

// shellQuote makes text one word of a POSIX shell.
func shellQuote(text string) string {
	special := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@%,", r))
	}
	if text != "" && !strings.ContainsFunc(text, special) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
