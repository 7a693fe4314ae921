package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"slices"
)

// authorities are those that certificates of clients, or of gateways, are from.
type authorities struct {
	pool *x509.CertPool
	raw  map[string]bool // their DER: a pool does not tell what is in it
}

// newAuthorities are the certificates of one file.
func newAuthorities(file string, log *slog.Logger) *reread[*authorities] {
	return &reread[*authorities]{
		what: "file of authorities", files: []string{file}, log: log,
		read: func() (*authorities, error) {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			a := parseAuthorities(text)
			if len(a.raw) == 0 {
				return nil, fmt.Errorf("%s holds no certificate", file)
			}
			return a, nil
		},
	}
}

// parseAuthorities passes over what is no certificate, as
// x509.CertPool.AppendCertsFromPEM does.
func parseAuthorities(text []byte) *authorities {
	a := &authorities{pool: x509.NewCertPool(), raw: map[string]bool{}}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return a
		}
		if block.Type != "CERTIFICATE" || len(block.Headers) > 0 {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			continue
		}
		a.pool.AddCert(c)
		a.raw[string(c.Raw)] = true
	}
}

// stillKnow tells whether a chain that was verified when its connection was made, or
// one that this one resumes, ends in what is an authority still. Signatures do not
// change; who is believed does.
func (a *authorities) stillKnow(state *tls.ConnectionState) bool {
	return state != nil && slices.ContainsFunc(state.VerifiedChains, func(chain []*x509.Certificate) bool {
		return len(chain) > 0 && a.raw[string(chain[len(chain)-1].Raw)]
	})
}
