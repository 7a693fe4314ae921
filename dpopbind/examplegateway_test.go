package dpopbind_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/cargokey/authz/dpopbind"
)

// An API behind a gateway takes only requests that the authorization server has
// checked, and learns from it who sent them.
func ExampleGatewayMiddleware() {
	as := exampleIssuer() // stands for the authorization server
	defer as.Close()
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, _ := dpopbind.CallerFrom(r.Context())
		fmt.Fprintf(w, "hello, %s", caller.ClientID)
	})

	protect, err := dpopbind.NewGatewayMiddleware(dpopbind.GatewayMiddlewareConfig{
		Issuer: as.URL, Resource: "https://labels.example", BaseURLs: []string{"https://api.example/v1"},
	})
	if err != nil {
		log.Fatal(err)
	}
	api := protect.Require("label:read")(hello)

	// The gateway has taken /v1 off, and adds what it got from the server.
	assertion := as.exampleAssertion("GET", "https://api.example/v1/labels")
	for _, path := range []string{"/labels", "/admin"} {
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("X-Auth-Assertion", assertion)
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		fmt.Printf("%d %.36s\n", w.Code, w.Body)
	}
	// Output:
	// 200 hello, svc
	// 403 {"error":"invalid_gateway_assertion"
}

func (as *issuer) exampleAssertion(method, url string) string {
	d := as.token("").head("typ", `"gateway-assertion+jwt"`).claim("aud", `"https://labels.example"`).claim("token_jti", `"t-1"`)
	d.claim("htm", `"`+method+`"`).claim("htu", `"`+url+`"`)
	return d.claim("iat", fmt.Sprint(time.Now().Unix())).claim("exp", fmt.Sprint(time.Now().Add(30*time.Second).Unix())).String()
}
