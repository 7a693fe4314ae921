package authz

import (
	"slices"
	"strings"
)

// asked is what a token request asks for, as it was sent.
type asked struct{ scope, resource string }

// Limits of a scope parameter: what is looked for among the grants costs the
// product of both.
const (
	maxScopeBytes  = 4 << 10
	maxScopeTokens = 64
)

// validate bounds what is asked before anything is spent on it.
func (a asked) validate() error {
	if len(a.scope) > maxScopeBytes || strings.Count(a.scope, " ") >= maxScopeTokens {
		return errInvalidScope("The parameter scope is longer than 4 KiB or has more than 64 scopes.")
	}
	if a.resource != "" && validateResourceURI(a.resource) != nil { // RFC 8707 §2
		return errInvalidTarget("The resource is not an absolute URI without fragment.")
	}
	return nil
}

// resolveGrant finds what a token request asks for among what the client may
// have: one grant, and the scopes of it. An empty resource is found by the
// scopes, or by there being one grant only; no scope means all that the grant
// has. One answer serves a resource that is unknown and one that is not
// granted.
func resolveGrant(client *Client, asked asked) (Grant, []string, error) {
	if len(client.Grants) == 0 {
		return Grant{}, nil, errUnauthorizedClient("This client has no grant, so there is nothing it can have a token for. Ask an operator for one.")
	}
	scopes := scopeTokens(asked.scope)
	if asked.resource != "" {
		for _, g := range client.Grants {
			if g.Resource == asked.resource {
				return within(g, scopes)
			}
		}
		return Grant{}, nil, errInvalidTarget("This client has no grant for this resource. Check its spelling, or ask an operator for a grant.")
	}
	if len(client.Grants) == 1 {
		return within(client.Grants[0], scopes)
	}
	if len(scopes) == 0 {
		return Grant{}, nil, errInvalidTarget("This client has grants for several resources. Say which one by the parameter resource, or by scope.")
	}
	return grantByScopes(client.Grants, scopes)
}

// grantByScopes finds the only grant that has all of the scopes.
func grantByScopes(grants []Grant, scopes []string) (Grant, []string, error) {
	var match []Grant
	known := make(map[string]bool)
	for _, g := range grants {
		for _, s := range g.Scopes {
			known[s] = true
		}
		if containsAll(g.Scopes, scopes) {
			match = append(match, g)
		}
	}
	switch {
	case len(match) == 1:
		return match[0], scopes, nil
	case len(match) > 1:
		return Grant{}, nil, errInvalidTarget("Several resources have these scopes. Say which one by the parameter resource.")
	case slices.ContainsFunc(scopes, func(s string) bool { return !known[s] }):
		return Grant{}, nil, errNotGranted()
	default:
		return Grant{}, nil, errInvalidTarget("These scopes belong to different resources. Ask for one token each.")
	}
}

func within(g Grant, scopes []string) (Grant, []string, error) {
	if len(scopes) == 0 { // RFC 6749 §3.3: a default, or refuse
		return g, g.Scopes, nil
	}
	if !containsAll(g.Scopes, scopes) {
		return Grant{}, nil, errNotGranted()
	}
	return g, scopes, nil
}

func errNotGranted() *oauthError {
	return errInvalidScope("A scope that was asked for is not granted to this client. Leave scope out to have all that is.")
}

func containsAll(have, want []string) bool {
	for _, w := range want {
		if !slices.Contains(have, w) {
			return false
		}
	}
	return true
}

// scopeTokens splits RFC 6749 §3.3's space-separated list and drops doubles.
func scopeTokens(scope string) []string {
	var tokens []string
	for s := range strings.SplitSeq(scope, " ") {
		if s != "" && !slices.Contains(tokens, s) {
			tokens = append(tokens, s)
		}
	}
	return tokens
}
