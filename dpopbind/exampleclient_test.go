package dpopbind_test

import (
	"log"
	"net/http"
	"os"

	"github.com/cargokey/authz/dpopbind"
)

// An http.Client calls an API with a token that is worth nothing to a thief.
func ExampleClient() {
	client, err := dpopbind.NewClient(dpopbind.ClientConfig{
		Issuer: "https://auth.example", ClientID: "label-service", ClientSecret: os.Getenv("CLIENT_SECRET"),
		Scope: []string{"label:create"}, APIs: []string{"https://labels.example"},
	})
	if err != nil {
		log.Fatal(err)
	}
	response, err := (&http.Client{Transport: client}).Get("https://labels.example/labels/7")
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
}
