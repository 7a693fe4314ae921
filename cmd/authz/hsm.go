package main

import (
	"errors"
	"fmt"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/hsm"
	"github.com/cargokey/authz/jwks"
)

type newKeys string

const (
	newKeysInHSM  newKeys = "hsm"
	newKeysSealed newKeys = "sealed"
)

// Set is called by envconfig.
func (n *newKeys) Set(s string) error {
	if s != string(newKeysInHSM) && s != string(newKeysSealed) {
		return errors.New("hsm or sealed")
	}
	*n = newKeys(s)
	return nil
}

// usesHSM tells whether there is to be one.
func (c *config) usesHSM() bool {
	return c.Pkcs11Module != "" || c.Pkcs11Token != "" || c.Pkcs11Pin != "" || c.Pkcs11PinFile != ""
}

// openHSM logs in to the HSM that the variables name; nil where they name none.
func (c *config) openHSM() (*hsm.HSM, error) {
	if !c.usesHSM() {
		return nil, nil
	}
	pin, err := readSecret("AUTHZ_PKCS11_PIN", c.Pkcs11Pin, c.Pkcs11PinFile)
	if err != nil {
		return nil, err
	}
	settings := hsm.Config{Module: c.Pkcs11Module, Token: c.Pkcs11Token, PIN: pin}
	if err := settings.Validate(); err != nil {
		return nil, fmt.Errorf("AUTHZ_PKCS11_MODULE, AUTHZ_PKCS11_TOKEN and AUTHZ_PKCS11_PIN are set together or not at all: %w", err)
	}
	h, err := hsm.Open(settings)
	if err != nil {
		return nil, fmt.Errorf("AUTHZ_PKCS11_MODULE, AUTHZ_PKCS11_TOKEN, AUTHZ_PKCS11_PIN: %w", err)
	}
	return h, nil
}

// useHSM has a server's keys in the HSM, where there is one. It refuses one that
// cannot make what tokens are signed by.
func (c *config) useHSM(server *authz.Config) (end func(), err error) {
	h, err := c.openHSM()
	if err != nil || h == nil {
		return func() {}, err
	}
	server.Device, server.SealNewKeys = h, c.Pkcs11NewKeys == newKeysSealed
	if server.SealNewKeys {
		return h.Close, nil
	}
	if err := h.Check(jwks.Algorithm(c.SigningAlg)); err != nil {
		h.Close()
		return nil, fmt.Errorf("AUTHZ_SIGNING_ALG: %w", err)
	}
	return h.Close, nil
}

// keyMaker is what makes new keys, for commands.
func (c *config) keyMaker() (maker authz.KeyHolder, end func(), err error) {
	if c.usesHSM() && c.Pkcs11NewKeys == newKeysInHSM {
		h, err := c.openHSM()
		if err != nil {
			return nil, nil, err
		}
		return h, h.Close, nil
	}
	sealer, err := c.sealer()
	return sealer, func() {}, err
}
