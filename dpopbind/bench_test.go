package dpopbind_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/dpopbind/prooftest"
)

// BenchmarkBareVerify is what BenchmarkCheckAndVerify is measured by: at most
// 1.25 times this.
func BenchmarkBareVerify(b *testing.B) {
	k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	digest := sha256.Sum256(nil)
	sig := must(ecdsa.SignASN1(rand.Reader, k, digest[:]))
	b.ReportAllocs()
	for b.Loop() {
		if !ecdsa.VerifyASN1(&k.PublicKey, digest[:], sig) {
			b.Fatal("refused")
		}
	}
}

func BenchmarkCheckAndVerify(b *testing.B) {
	key := must(dpopbind.GenerateKey())
	proof := must(key.Proof(method, tokenURL, now, dpopbind.ProofOptions{}))
	c, target := newChecker(b, now), newTarget(b, method, tokenURL)
	b.ReportAllocs()
	for b.Loop() {
		p, err := c.Check(proof, target)
		if err == nil {
			err = p.VerifySignature()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	for alg, signer := range signers(b) {
		proof := must(must(dpopbind.NewKey(signer, alg)).Proof(method, tokenURL, now, dpopbind.ProofOptions{}))
		c, target := newChecker(b, now), newTarget(b, method, tokenURL)
		b.Run(string(alg), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p, err := c.Check(proof, target)
				if err != nil {
					b.Fatal(err)
				}
				p.SpendKey()
			}
		})
	}
}

// BenchmarkRefuseStale is an old proof, the cheapest to send again in masses.
func BenchmarkRefuseStale(b *testing.B) {
	proof := prooftest.New(now.Add(-time.Hour), method, tokenURL).String()
	c, target := newChecker(b, now), newTarget(b, method, tokenURL)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Check(proof, target); err == nil {
			b.Fatal("accepted")
		}
	}
}

// BenchmarkBareSign is what BenchmarkProof is measured by: at most 1.4 times
// this.
func BenchmarkBareSign(b *testing.B) {
	k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	digest := sha256.Sum256(nil)
	b.ReportAllocs()
	for b.Loop() {
		must(ecdsa.SignASN1(rand.Reader, k, digest[:]))
	}
}

func BenchmarkProof(b *testing.B) {
	key := must(dpopbind.GenerateKey())
	b.ReportAllocs()
	for b.Loop() {
		must(key.Proof(method, tokenURL, now, dpopbind.ProofOptions{Nonce: "n"}))
	}
}

func BenchmarkNormalizeURL(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		must(dpopbind.NormalizeURL(tokenURL))
	}
}
