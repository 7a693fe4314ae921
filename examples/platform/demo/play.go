package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/cargokey/authz/dpopbind"
)

const parcel = `{"carrier": "acme", "recipient": "Ada"}`

// service is the client that the day is about.
type service struct {
	id     string
	key    *dpopbind.Key
	bound  *dpopbind.Client
	client *http.Client // by bound: with a token and a proof for each request
	log    *accessLog
	token  string // the one that is stolen
	label  string // the URL of the label it made
}

// proof is one for a request with the token.
func (c *service) proof(method, url string) (string, error) {
	return c.key.Proof(method, url, time.Now(), dpopbind.ProofOptions{AccessToken: c.token})
}

// play tells the day. What it registers it removes again, whatever happens.
func play(ctx context.Context, p platform, s *story) (err error) {
	s.open("A day on the platform. The authorization server is " + p.issuer + " (two instances behind a balancer). " +
		"The labels API is " + p.gateway + ", behind a gateway that shows each call to the authorization server first.")
	c := &service{id: "label-service-" + strings.ToLower(rand.Text()[:6]), log: &accessLog{}}
	secret, err := p.register(ctx, s, c)
	if err != nil {
		return err
	}
	removed := false
	defer func() {
		if !removed { // the day ended early
			err = errors.Join(err, p.remove(context.WithoutCancel(ctx), s, c))
		}
	}()
	for _, scene := range []func(context.Context, *story, *service) error{
		func(ctx context.Context, s *story, c *service) error { return p.getToken(ctx, s, c, secret) },
		p.makeLabel, p.steal, p.revoke,
	} {
		if err := scene(ctx, s, c); err != nil {
			return err
		}
	}
	removed = true
	s.chapter("The platform is left as it was found.")
	if err := p.remove(ctx, s, c); err != nil {
		return err
	}
	if err := p.holderCalls(ctx, s, c, "The client's last token, with a good proof", http.StatusUnauthorized, "invalid_token"); err != nil {
		return err
	}
	return s.end()
}

func (p platform) register(ctx context.Context, s *story, c *service) (secret string, err error) {
	s.chapter("An operator registers a service as a client, and says what it may ask for.")
	var registered struct {
		Secret string `json:"client_secret"`
	}
	if err := p.operate(ctx, s, &registered, "client", "create", c.id, "--grant", p.resource+"=label:create,label:read"); err != nil {
		return "", err
	}
	s.outcome(registered.Secret != "", "Its secret was made by the server and is shown once; the database has a digest of it.")
	return registered.Secret, nil
}

func (p platform) remove(ctx context.Context, s *story, c *service) error {
	var deleted struct{}
	return p.operate(ctx, s, &deleted, "client", "delete", c.id)
}

func (p platform) getToken(ctx context.Context, s *story, c *service, secret string) error {
	s.chapter("The service makes a key of its own, and asks for a token with a proof that it holds the key.")
	var err error
	if c.key, err = dpopbind.GenerateKey(); err != nil {
		return err
	}
	if c.bound, err = dpopbind.NewClient(dpopbind.ClientConfig{
		Issuer: p.issuer, ClientID: c.id, ClientSecret: secret, Scope: []string{"label:create", "label:read"},
		APIs: []string{p.gateway}, Key: c.key, Transport: c.log,
	}); err != nil {
		return err
	}
	c.client = &http.Client{Transport: c.bound}
	token, err := c.bound.Token(ctx)
	if err != nil {
		return err
	}
	c.token = token.AccessToken
	claims, err := claimsOf(c.token)
	if err != nil {
		return err
	}
	s.outcome(token.Type == "DPoP" && token.JKT == c.key.JKT() && claims.Cnf.JKT == c.key.JKT(),
		fmt.Sprintf("A token of type %s for %q, for %d minutes. It names the key by its thumbprint, cnf.jkt %s. "+
			"The private half has never left the service.", token.Type, token.Scope, (claims.Exp-claims.IAT)/60, claims.Cnf.JKT))
	return nil
}

// tokenClaims are those that are told.
type tokenClaims struct {
	JTI string `json:"jti"`
	IAT int64  `json:"iat"`
	Exp int64  `json:"exp"`
	Cnf struct {
		JKT string `json:"jkt"`
	} `json:"cnf"`
}

// claimsOf reads a token without checking it: that is for others.
func claimsOf(token string) (claims tokenClaims, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return claims, errors.New("the token is no JWT")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return claims, err
	}
	return claims, json.Unmarshal(payload, &claims)
}

func (p platform) makeLabel(ctx context.Context, s *story, c *service) error {
	s.chapter("It makes a label through the gateway, and reads it. Each request has a proof of its own.")
	made, err := send(ctx, c.client, "POST", p.gateway+"/labels", parcel, nil)
	if err != nil {
		return err
	}
	s.tell("POST " + p.gateway + "/labels")
	s.outcome(made.status == http.StatusCreated && made.member("created_by") == c.id,
		fmt.Sprintf("%s, label %s. The API knows its caller by the server's word: %s.", made.told(), made.member("id"), made.member("created_by")))
	c.label = p.gateway + "/labels/" + made.member("id")
	s.tell("GET " + c.label)
	read, err := send(ctx, c.client, "GET", c.label, "", nil)
	if err != nil {
		return err
	}
	s.outcome(read.status == http.StatusOK && read.member("recipient") == "Ada",
		fmt.Sprintf("%s, for %s.", read.told(), read.member("recipient")))
	return nil
}

func (p platform) revoke(ctx context.Context, s *story, c *service) error {
	s.chapter("The leak is found. The operator revokes the token, and nobody waits for it to expire.")
	claims, err := claimsOf(c.token)
	if err != nil {
		return err
	}
	var revoked struct{}
	if err := p.operate(ctx, s, &revoked, "token", "revoke", claims.JTI); err != nil {
		return err
	}
	if err := p.holderCalls(ctx, s, c, "The service itself, with its own key and a new proof", http.StatusUnauthorized, "invalid_token"); err != nil {
		return err
	}
	s.tell("Its next call: dpopbind.Client sees invalid_token, asks for a new token with the same key, and repeats the call.")
	read, err := send(ctx, c.client, "GET", c.label, "", nil)
	if err != nil {
		return err
	}
	renewed, err := c.bound.Token(ctx)
	if err != nil {
		return err
	}
	s.outcome(read.status == http.StatusOK && renewed.AccessToken != c.token, read.told()+". The service went on without a pause.")
	c.token = renewed.AccessToken
	return nil
}

// holderCalls makes a call with the token by hand, as who has the key can.
func (p platform) holderCalls(ctx context.Context, s *story, c *service, who string, status int, code string) error {
	proof, err := c.proof("GET", c.label)
	if err != nil {
		return err
	}
	a, err := send(ctx, http.DefaultClient, "GET", c.label, "", withToken("DPoP", c.token, proof))
	if err != nil {
		return err
	}
	s.tell(who + ":")
	s.outcome(a.status == status && a.code == code, a.told())
	return nil
}

func withToken(scheme, token string, proofs ...string) http.Header {
	return http.Header{"Authorization": {scheme + " " + token}, "Dpop": proofs}
}
