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

// devDatabase is what the page says of the database.
type devDatabase struct {
	description string
	own         bool   // "authz dev" has started it
	dir         string // of the state
}

// unknownSecret stands in a command for a secret that is not known here.
const unknownSecret = "THE_NEW_SECRET"

// devPage is what a newcomer reads.
func devPage(v devView, db devDatabase) string {
	shown := [2]string{v.ClientSecret, v.GatewayClientSecret}
	for i, secret := range []*string{&v.ClientSecret, &v.GatewayClientSecret} {
		if *secret == "" {
			shown[i], *secret = "(rotated: not known here)", unknownSecret
		}
	}
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

Operators' commands, such as authz client list, need the database; authz key rotate needs
the sealing key as well. In that terminal:

%s
`,
		v.Issuer, v.InternalURL, demoResource, demoBaseURLs()[0],
		v.ClientID, shown[0], v.GatewayClientID, shown[1], db.dir, db.description,
		thisCommand(), v.Issuer, v.ClientID, v.ClientSecret,
		v.GatewayClientID, v.GatewayClientSecret, v.IntrospectionEndpoint,
		v.ClientID, v.ClientSecret, v.RevocationEndpoint,
		db.exports(v.DatabaseURL))
}

// exports are how operators' commands reach the database, and what it is sealed
// with. A URL that was given is not repeated: it may hold a password.
func (db devDatabase) exports(url string) string {
	sealingKey := `export AUTHZ_KEY_ENCRYPTION_KEY="$(sed 's/.*"sealing_key":"\([^"]*\)".*/\1/' ` + shellQuote(filepath.Join(db.dir, "demo.json")) + ")\"\n"
	if !db.own {
		return "(the database: as this authz dev was given it)\n" + sealingKey
	}
	return "export AUTHZ_DATABASE_URL=" + shellQuote(url) + "   # unset it before the next authz dev\n" + sealingKey
}

// describeDatabase says which one it is.
func describeDatabase(pg *pgdev.Postgres) string {
	return strings.ReplaceAll(pg.Source(), ", ", ",\n            ")
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
