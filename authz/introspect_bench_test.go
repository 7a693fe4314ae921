package authz_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/cargokey/authz/authz"
)

// BenchmarkIntrospect is an introspection without net/http around it, with its log line
// and its look into Postgres: what it allocates is what it costs beside these.
func BenchmarkIntrospect(b *testing.B) {
	w := newWorld(b)
	i := w.instance(func(c *authz.Config) { c.Log = slog.New(slog.NewJSONHandler(io.Discard, nil)) })
	gateway, client := w.gateway(), w.client(authz.Client{})
	token := i.token(client, newKey(b)).string("access_token")
	body := url.Values{"token": {token}}.Encode()
	handler := i.server.Handler()
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "/oauth/introspect", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth(gateway.ID, gateway.secret)
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, r)
		if !strings.Contains(answer.Body.String(), `"active":true`) {
			b.Fatal(answer.Body)
		}
	}
}
