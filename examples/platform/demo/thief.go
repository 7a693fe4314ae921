package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"github.com/cargokey/authz/dpopbind"
)

// attempt is one of the thief's, and how it must be answered.
type attempt struct {
	told   string
	url    string // of the POST
	header http.Header
	status int
	code   string
}

// steal is what a thief can do who has the log: the token, and every proof that
// was sent with it, but not the key.
func (p platform) steal(ctx context.Context, s *story, c *service) error {
	s.chapter("A proxy on the way wrote whole requests into its log, and the log is stolen: the token, and each proof that went with it. " +
		"Six attempts to use them:")
	attempts, err := p.attempts(c)
	if err != nil {
		return err
	}
	for i, a := range attempts {
		s.tell(fmt.Sprintf("%c) POST %s %s", 'a'+i, a.url, a.told))
		got, err := send(ctx, http.DefaultClient, "POST", a.url, parcel, a.header)
		if err != nil {
			return err
		}
		s.outcome(got.status == a.status && got.code == a.code, got.told())
	}
	s.tell("The service itself, all the while:")
	read, err := send(ctx, c.client, "GET", c.label, "", nil)
	if err != nil {
		return err
	}
	s.outcome(read.status == http.StatusOK, read.told())
	return nil
}

func (p platform) attempts(c *service) ([]attempt, error) {
	labels := p.gateway + "/labels"
	logged, err := c.log.find("POST", labels)
	if err != nil {
		return nil, err
	}
	thief, err := dpopbind.GenerateKey()
	if err != nil {
		return nil, err
	}
	own, err := (&service{key: thief, token: logged.token}).proof("POST", labels)
	if err != nil {
		return nil, err
	}
	// The service's own, of a request that was logged and then lost on its way.
	unspent, err := c.proof("GET", c.label)
	if err != nil {
		return nil, err
	}
	pretending := withToken("DPoP", logged.token, unspent)
	for name, value := range map[string]string{
		"X-Forwarded-Method": "GET", "X-Forwarded-Uri": strings.TrimPrefix(c.label, p.gateway), "X-Original-Method": "GET", "X-Original-Url": c.label,
	} {
		pretending.Set(name, value)
	}
	return []attempt{
		{"with the token alone, without a proof", labels, withToken("DPoP", logged.token), 401, "invalid_dpop_proof"},
		{"with a proof by a key of the thief's own", labels, withToken("DPoP", logged.token, own), 401, "invalid_token"},
		{"with the proof from the log, sent once more", labels, withToken("DPoP", logged.token, logged.proof), 401, "invalid_dpop_proof"},
		{"with a proof for reading a label, which was lost on its way and so is not spent, and X-Forwarded-… and X-Original-… headers that make this the same request",
			labels, pretending, 401, "invalid_dpop_proof"},
		{"with the token as a bearer token", labels, withToken("Bearer", logged.token), 401, "invalid_token"},
		{"with X-Auth-… headers as the gateway would send them: past the gateway, straight at the API", p.api + "/labels",
			p.forgedIdentity(c, logged.token), 403, "invalid_gateway_assertion"},
	}, nil
}

// forgedIdentity is what the gateway tells the API, by somebody who cannot sign
// it.
func (p platform) forgedIdentity(c *service, token string) http.Header {
	part := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	header := withToken("DPoP", token)
	header.Set("X-Auth-Client-Id", c.id)
	header.Set("X-Auth-Scope", "label:create label:read")
	header.Set("X-Auth-Jkt", c.key.JKT())
	header.Set("X-Auth-Assertion", part(`{"alg":"none","typ":"gateway-assertion+jwt"}`)+"."+
		part(fmt.Sprintf(`{"iss":%q,"aud":%q,"client_id":%q,"scope":"label:create","htm":"POST","htu":%q}`,
			p.issuer, p.resource, c.id, p.gateway+"/labels"))+".")
	return header
}
