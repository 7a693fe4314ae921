package dpopbind_test

import (
	"testing"
	"time"

	"github.com/cargokey/authz/dpopbind"
)

func TestAGatewayMiddlewareRefusesAnUnsafeConfiguration(t *testing.T) {
	good := func() dpopbind.GatewayMiddlewareConfig {
		return dpopbind.GatewayMiddlewareConfig{Issuer: "https://as.example", Resource: apiResource, BaseURLs: []string{apiBase}}
	}
	if _, err := dpopbind.NewGatewayMiddleware(good()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*dpopbind.GatewayMiddlewareConfig){
		"no issuer":           func(c *dpopbind.GatewayMiddlewareConfig) { c.Issuer = "" },
		"issuer by http":      func(c *dpopbind.GatewayMiddlewareConfig) { c.Issuer = "http://as.example" },
		"JWKS by http":        func(c *dpopbind.GatewayMiddlewareConfig) { c.JWKSURI = "http://as.example/jwks" },
		"no resource":         func(c *dpopbind.GatewayMiddlewareConfig) { c.Resource = "" },
		"a relative resource": func(c *dpopbind.GatewayMiddlewareConfig) { c.Resource = "labels" },
		"no base URL":         func(c *dpopbind.GatewayMiddlewareConfig) { c.BaseURLs = nil },
		"a relative base URL": func(c *dpopbind.GatewayMiddlewareConfig) { c.BaseURLs = []string{"/v1"} },
		"a base in a base":    func(c *dpopbind.GatewayMiddlewareConfig) { c.BaseURLs = []string{apiBase, apiURL} },
		"alg none":            func(c *dpopbind.GatewayMiddlewareConfig) { c.Algorithms = []dpopbind.Algorithm{"none"} },
		"alg twice":           func(c *dpopbind.GatewayMiddlewareConfig) { c.Algorithms = []dpopbind.Algorithm{"ES256", "ES256"} },
		"a negative skew":     func(c *dpopbind.GatewayMiddlewareConfig) { c.ClockSkew = -1 },
		"a skew of an hour":   func(c *dpopbind.GatewayMiddlewareConfig) { c.ClockSkew = time.Hour },
	} {
		cfg := good()
		spoil(&cfg)
		if _, err := dpopbind.NewGatewayMiddleware(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("what is no scope was accepted")
		}
	}()
	must(dpopbind.NewGatewayMiddleware(good())).Require("label:read label:create")
}
