package dpopbind

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/go-jose/go-jose/v4"

	"github.com/cargokey/authz/internal/strictjose"
)

// Key is a client's DPoP key: anything that signs, so that the private half can
// stay in a KMS, with its algorithm. It is immutable, and safe for concurrent
// use if its signer is. It neither prints nor logs more than its name.
type Key struct {
	signer crypto.Signer
	alg    Algorithm
	public *publicKey
	kid    string
	// header is the encoded JOSE header and its dot: the same for all proofs.
	header string
}

// NewKey returns the key of a signer. An empty alg means the natural one: ES256
// for P-256, EdDSA for Ed25519, PS256 for RSA. Keys that a Checker would refuse
// are refused here too.
//
// For Ed25519 the signer gets the whole message and crypto.Hash(0), otherwise a
// SHA-256 digest. An ECDSA signer returns ASN.1, as crypto.Signer demands.
func NewKey(signer crypto.Signer, alg Algorithm) (*Key, error) {
	if signer == nil {
		return nil, errors.New("dpopbind: a key needs a signer")
	}
	jwk, natural, err := encodePublicKey(signer.Public())
	if err != nil {
		return nil, err
	}
	if alg == "" {
		alg = natural
	}
	o, err := strictjose.ParseObject(jwk)
	if err != nil {
		return nil, errors.New("dpopbind: the public key cannot be encoded")
	}
	public, err := parsePublicJWK(o)
	if err != nil {
		return nil, fmt.Errorf("dpopbind: a DPoP key is not usable: %w", err)
	}
	if alg.kty() != public.Type {
		return nil, fmt.Errorf("dpopbind: the algorithm %q does not fit a key of type %s", string(alg), public.Type)
	}
	header := `{"typ":"dpop+jwt","alg":"` + string(alg) + `","jwk":` + string(public.Canonical) + `}`
	return &Key{signer: signer, alg: alg, public: public, header: b64.EncodeToString([]byte(header)) + "."}, nil
}

// GenerateKey returns a new ES256 key.
func GenerateKey() (*Key, error) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("dpopbind: generating a key: %w", err)
	}
	return NewKey(priv, ES256)
}

// ParseKey reads a private JWK (RFC 7517), and takes its alg and its kid where it
// has them.
// Its errors never hold key material.
func ParseKey(jwk []byte) (*Key, error) {
	var k jose.JSONWebKey
	if err := k.UnmarshalJSON(jwk); err != nil {
		// The cause is left out: it may quote the input.
		return nil, errors.New("dpopbind: not a valid private JWK")
	}
	signer, ok := k.Key.(crypto.Signer)
	if !ok {
		return nil, errors.New("dpopbind: the JWK holds no private key of an asymmetric algorithm")
	}
	if !isConsistent(signer) {
		return nil, errors.New("dpopbind: the private and public members of the JWK do not belong together")
	}
	key, err := NewKey(signer, Algorithm(k.Algorithm))
	if err != nil {
		return nil, err
	}
	key.kid = k.KeyID
	return key, nil
}

// isConsistent says whether the public half of a key that was read belongs to
// its private half. With another one, proofs would name a foreign key.
func isConsistent(signer crypto.Signer) bool {
	switch k := signer.(type) {
	case *ecdsa.PrivateKey:
		d, err := k.Bytes()
		if err != nil {
			return false
		}
		derived, err := ecdsa.ParseRawPrivateKey(k.Curve, d)
		return err == nil && derived.PublicKey.Equal(&k.PublicKey)
	case ed25519.PrivateKey:
		return len(k) == ed25519.PrivateKeySize && bytes.Equal(ed25519.NewKeyFromSeed(k.Seed()), k)
	case *rsa.PrivateKey:
		return k.Validate() == nil
	}
	return false
}

// MarshalPrivateJWK returns the key as a private JWK with its alg, and its kid if
// it has one, which ParseKey reads. It is secret. A signer that is not one of the standard
// library's private keys cannot be exported.
func (k *Key) MarshalPrivateJWK() ([]byte, error) {
	switch k.signer.(type) {
	case *ecdsa.PrivateKey, ed25519.PrivateKey, *rsa.PrivateKey:
	default:
		return nil, errors.New("dpopbind: the signer's private key cannot be exported")
	}
	b, err := jose.JSONWebKey{Key: k.signer, Algorithm: string(k.alg), KeyID: k.kid}.MarshalJSON()
	if err != nil {
		return nil, errors.New("dpopbind: the private key cannot be encoded")
	}
	return b, nil
}

// JKT returns the key's name: the base64url encoding of its RFC 7638 SHA-256
// thumbprint.
func (k *Key) JKT() string { return k.public.Thumbprint }

// KID returns the kid of the JWK that the key was read from, "" where it has none.
// A DPoP proof has no use for it; a ClientAssertion is found its key by it.
func (k *Key) KID() string { return k.kid }

// Algorithm returns the algorithm that the key signs with.
func (k *Key) Algorithm() Algorithm { return k.alg }

// PublicJWK returns the public key as a JWK of the required members only, in
// the canonical form of RFC 7638 §3.
func (k *Key) PublicJWK() []byte { return bytes.Clone(k.public.Canonical) }

// LogValue names the key and its algorithm.
func (k Key) LogValue() slog.Value {
	if k.public == nil {
		return slog.StringValue("DPoP key")
	}
	return slog.GroupValue(slog.String("jkt", k.public.Thumbprint), slog.String("alg", string(k.alg)))
}

// Format prints the same for every verb, so that none reveals the signer.
func (k Key) Format(f fmt.State, _ rune) {
	jkt := ""
	if k.public != nil {
		jkt = k.public.Thumbprint
	}
	_, _ = fmt.Fprintf(f, "DPoP key (alg %s, jkt %s)", string(k.alg), jkt)
}

// encodePublicKey returns a public key as a JWK, and its natural algorithm.
func encodePublicKey(pub crypto.PublicKey) ([]byte, Algorithm, error) {
	switch p := pub.(type) {
	case *ecdsa.PublicKey:
		point, err := p.Bytes()
		if err != nil || p.Curve != elliptic.P256() {
			return nil, "", errors.New("dpopbind: the curve of an ECDSA key must be P-256")
		}
		return strictjose.CanonicalEC(b64.EncodeToString(point[1:33]), b64.EncodeToString(point[33:])), ES256, nil
	case ed25519.PublicKey:
		return strictjose.CanonicalOKP(b64.EncodeToString(p)), EdDSA, nil
	case *rsa.PublicKey:
		if p.N == nil || p.N.Sign() <= 0 || p.E <= 0 {
			return nil, "", errors.New("dpopbind: the RSA key is incomplete")
		}
		e := bytes.TrimLeft(binary.BigEndian.AppendUint64(nil, uint64(p.E)), "\x00")
		return strictjose.CanonicalRSA(b64.EncodeToString(p.N.Bytes()), b64.EncodeToString(e)), PS256, nil
	}
	return nil, "", fmt.Errorf("dpopbind: public keys of type %T are not supported", pub)
}
