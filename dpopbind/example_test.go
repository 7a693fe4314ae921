package dpopbind_test

import (
	"errors"
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/cargokey/authz/dpopbind"
)

// A server checks a proof in two steps, and spends it last.
func ExampleChecker_Check() {
	checker, err := dpopbind.NewChecker(dpopbind.CheckerConfig{})
	if err != nil {
		log.Fatal(err)
	}
	target, err := dpopbind.NewTarget("POST", "https://as.example/token")
	if err != nil {
		log.Fatal(err)
	}
	spent := map[[32]byte]bool{} // a real server: one atomic write, shared by all instances

	serve := func(r *http.Request) error {
		raw, err := dpopbind.ProofHeader(r.Header)
		if err != nil {
			return err
		}
		proof, err := checker.Check(raw, target)
		if err != nil {
			return err
		}
		// Authenticate the client here, before the costly part.
		if err := proof.VerifySignature(); err != nil {
			return err
		}
		if spent[proof.SpendKey()] {
			return errors.New("replayed")
		}
		spent[proof.SpendKey()] = true // until proof.AcceptedUntil()
		return nil                     // bind the token to proof.JKT()
	}

	key, err := dpopbind.GenerateKey()
	if err != nil {
		log.Fatal(err)
	}
	request := func(url string) *http.Request {
		proof, err := key.Proof("POST", url, time.Now(), dpopbind.ProofOptions{})
		if err != nil {
			log.Fatal(err)
		}
		return &http.Request{Header: http.Header{"Dpop": {proof}}}
	}

	first := request("https://as.example/token")
	fmt.Println(serve(first))
	fmt.Println(serve(first))
	var refused *dpopbind.ProofError
	if errors.As(serve(request("https://other.example/token")), &refused) {
		fmt.Println(refused.Check)
		fmt.Println(refused.Description)
	}
	// Output:
	// <nil>
	// replayed
	// htu
	// htu: is 'https://other.example/token' and must be 'https://as.example/token'
}

// A client makes a new proof for each request.
func ExampleKey_Proof() {
	key, err := dpopbind.GenerateKey()
	if err != nil {
		log.Fatal(err)
	}
	req, err := http.NewRequest("GET", "https://api.example/labels?id=7", nil)
	if err != nil {
		log.Fatal(err)
	}
	token := "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
	proof, err := key.Proof(req.Method, req.URL.String(), time.Now(), dpopbind.ProofOptions{AccessToken: token})
	if err != nil {
		log.Fatal(err)
	}
	req.Header.Set("Authorization", "DPoP "+token)
	req.Header.Set("DPoP", proof)
	fmt.Println(len(req.Header["Dpop"]), key.Algorithm())
	// Output: 1 ES256
}
