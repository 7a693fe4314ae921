// Command demo plays a day of the platform that docker-compose.yml starts: a
// service gets a token and uses it, a thief gets the token and cannot, and an
// operator makes an end of it. It tells each step in plain words, and exits with
// 1 if anything is not as told.
//
//	docker compose run --rm demo
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// platform is where everything is.
type platform struct {
	issuer, gateway string // the URLs that everybody uses
	api             string // the API itself, past the gateway
	resource        string
	authz           string // the operator's program, which reads AUTHZ_DATABASE_URL
}

func main() {
	var p platform
	flag.StringVar(&p.issuer, "issuer", "http://localhost:8080", "the authorization server, by its balancer")
	flag.StringVar(&p.gateway, "gateway", "http://localhost:8090", "the API, by its gateway")
	flag.StringVar(&p.api, "api", "http://carrier-api:8090", "the API itself, where no client should reach it")
	flag.StringVar(&p.resource, "resource", "https://labels.carrier.test", "the API's identifier")
	flag.StringVar(&p.authz, "authz", "authz", "the operator's program")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := play(ctx, p, &story{out: os.Stdout}); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}
