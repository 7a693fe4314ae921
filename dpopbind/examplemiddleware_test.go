package dpopbind_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/cargokey/authz/dpopbind"
)

// An API takes only requests whose sender holds the key of its token.
func ExampleMiddleware() {
	as := exampleIssuer() // stands for the authorization server
	defer as.Close()
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, _ := dpopbind.CallerFrom(r.Context())
		fmt.Fprintf(w, "hello, %s", caller.ClientID)
	})

	protect, err := dpopbind.NewMiddleware(dpopbind.MiddlewareConfig{
		Issuer: as.URL, Resource: "https://labels.example", BaseURLs: []string{"https://api.example"},
		Replay: dpopbind.NewMemoryReplay(0, nil),
	})
	if err != nil {
		log.Fatal(err)
	}
	api := httptest.NewServer(protect.Require("label:read")(hello))
	defer api.Close()

	key, err := dpopbind.GenerateKey()
	if err != nil {
		log.Fatal(err)
	}
	token := as.exampleToken(key.JKT()) // as the token endpoint issues it
	proof, err := key.Proof("GET", "https://api.example/labels", time.Now(), dpopbind.ProofOptions{AccessToken: token})
	if err != nil {
		log.Fatal(err)
	}
	for _, scheme := range []string{"DPoP ", "DPoP ", "Bearer "} {
		req, err := http.NewRequest("GET", api.URL+"/labels", nil)
		if err != nil {
			log.Fatal(err)
		}
		req.Header.Set("Authorization", scheme+token)
		req.Header.Set("DPoP", proof)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			log.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		fmt.Printf("%d %.28s\n", res.StatusCode, body)
	}
	// Output:
	// 200 hello, svc
	// 401 {"error":"invalid_dpop_proof
	// 401 {"error":"invalid_token","er
}

func exampleIssuer() *issuer {
	as := &issuer{key: newIssuerKey("k1")}
	mux := http.NewServeMux()
	as.Server = httptest.NewServer(mux)
	mux.HandleFunc("/.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"%s/keys"}`, as.URL, as.URL)
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"keys":[%s]}`, as.key.jwk()) })
	return as
}

func (as *issuer) exampleToken(jkt string) string {
	d := as.token(jkt).claim("aud", `"https://labels.example"`)
	return d.claim("iat", fmt.Sprint(time.Now().Unix())).claim("exp", fmt.Sprint(time.Now().Add(time.Hour).Unix())).String()
}
