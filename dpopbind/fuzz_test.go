package dpopbind_test

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/dpopbind/prooftest"
)

// FuzzCheck holds every answer to its type, and every accepted proof to what
// its meaning must not depend on.
func FuzzCheck(f *testing.F) {
	for _, row := range prooftest.Cases(now, method, tokenURL) {
		if len(row.Headers) == 1 {
			f.Add(row.Headers[0])
		}
	}
	c, target := newChecker(f, now), newTarget(f, method, tokenURL)
	f.Fuzz(func(t *testing.T, proof string) { checkAny(t, c, target, proof) })
}

func checkAny(t *testing.T, c *dpopbind.Checker, target dpopbind.Target, proof string) {
	p, err := c.Check(proof, target)
	if err != nil {
		asProofError(t, err)
		return
	}
	if p.HTU() != tokenURL || p.JTI() == "" || len(p.JKT()) != 43 || p.AcceptedUntil().Before(now) || p.IssuedAt().IsZero() {
		t.Errorf("accepted with odd claims: %v", p)
	}
	if err := p.VerifySignature(); err != nil {
		asProofError(t, err)
		return
	}
	if p.Algorithm() != dpopbind.ES256 {
		return
	}
	q, err := c.Check(prooftest.OtherS(proof), target)
	if err != nil || q.VerifySignature() != nil || q.SpendKey() != p.SpendKey() {
		t.Errorf("with its other s: %v", err)
	}
}

// FuzzHeader goes deeper than FuzzCheck: it fuzzes the two JSON documents.
func FuzzHeader(f *testing.F) {
	for _, row := range prooftest.Cases(now, method, tokenURL) {
		if len(row.Headers) != 1 {
			continue
		}
		part := strings.Split(row.Headers[0], ".")
		if len(part) != 3 {
			continue
		}
		header, err := base64.RawURLEncoding.DecodeString(part[0])
		if err != nil {
			continue
		}
		payload, err := base64.RawURLEncoding.DecodeString(part[1])
		if err == nil {
			f.Add(header, payload, len(part[2])*3/4)
		}
	}
	c, target := newChecker(f, now), newTarget(f, method, tokenURL)
	f.Fuzz(func(t *testing.T, header, payload []byte, size int) {
		sig := make([]byte, max(0, min(size, 1024)))
		enc := base64.RawURLEncoding.EncodeToString
		checkAny(t, c, target, enc(header)+"."+enc(payload)+"."+enc(sig))

		h := http.Header{"Dpop": []string{string(header), string(payload)}[:1+size&1]}
		var e *dpopbind.ProofError
		if raw, err := dpopbind.ProofHeader(h); err != nil && !errors.As(err, &e) {
			t.Errorf("got %q, %v", raw, err)
		}
	})
}
