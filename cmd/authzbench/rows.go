package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The paths, which those of the floors are called by too.
const (
	pathToken      = "/oauth/token"
	pathIntrospect = "/oauth/introspect"
	pathRevoke     = "/oauth/revoke"
	pathVerify     = "/gateway/verify"
)

// row is one kind of request.
type row struct {
	name     string
	floor    bool // asks the floor, and not the server
	internal bool // asks the internal listener
	// make returns n requests or fewer; with again, each may be sent again.
	make  func(k *kit, s *server, n int) ([][]byte, error)
	again bool
	check func(answer) error
	// count is how many have really been done so far, where an answer does not
	// tell; nil: it does.
	count func(k *kit, ctx context.Context) (int, error)
}

// group is rows that take turns. The last is the floor of the others.
type group []row

// groups is the whole benchmark. Revocation has no floor of its own: it is shown
// beside the token's, which has as many durable statements and two signatures
// more.
func groups() []group {
	return []group{{
		{name: "token", make: (*kit).boundRequests, check: isToken("DPoP")},
		{name: "bearer", make: (*kit).bearerRequests, again: true, check: isToken("Bearer")},
		{name: "private-key", make: (*kit).assertionRequests, check: isToken("DPoP")},
		{name: "revoke", make: (*kit).revocations, check: isEmpty, count: (*kit).revoked},
		{name: "token-floor", floor: true, make: (*kit).boundRequests, check: isToken("DPoP")},
	}, {
		{name: "introspect-jwt", make: introspectionsOf(jwtOf), again: true, check: isActive},
		{name: "introspect-opaque", make: introspectionsOf(opaque), again: true, check: isActive},
		{name: "introspect-first", make: (*kit).firstIntrospections, check: isActive},
		{name: "introspect-floor", floor: true, make: introspectionsOf(jwtOf), again: true, check: isActive},
	}, {
		{name: "verify", internal: true, make: (*kit).verifications, check: isAdmitted},
		{name: "verify-first", internal: true, make: (*kit).firstVerifications, check: isAdmitted},
		{name: "verify-floor", floor: true, make: (*kit).verifications, check: isAdmitted},
	}}
}

func (g group) floor() row { return g[len(g)-1] }

// selected keeps the rows that are named and their floors; none named: all.
func selected(names []string) []group {
	var kept []group
	for _, g := range groups() {
		chosen := slices.DeleteFunc(slices.Clone(g), func(r row) bool { return !slices.Contains(names, r.name) && len(names) > 0 })
		switch {
		case len(chosen) == 0:
			continue
		case !chosen[len(chosen)-1].floor:
			chosen = append(chosen, g.floor())
		}
		kept = append(kept, chosen)
	}
	return kept
}

func rowNames() []string {
	var names []string
	for _, g := range groups() {
		for _, r := range g {
			names = append(names, r.name)
		}
	}
	return names
}

func knownRows(names, known []string) error {
	for _, name := range names {
		if !slices.Contains(known, name) {
			return fmt.Errorf("there is no row %q; there are: %s", name, strings.Join(known, ", "))
		}
	}
	return nil
}

var errUnexpected = errors.New("an answer is not what it should be")

func isToken(kind string) func(answer) error {
	wanted := []byte(`"token_type":"` + kind + `"`)
	return func(a answer) error {
		if tokenOf(a) == "" || !bytes.Contains(a.body, wanted) {
			return errUnexpected
		}
		return nil
	}
}

func isAnyToken(a answer) error {
	if tokenOf(a) == "" {
		return errUnexpected
	}
	return nil
}

// tokenOf is the access token in an answer, "" if there is none.
func tokenOf(a answer) string {
	_, rest, _ := bytes.Cut(a.body, []byte(`"access_token":"`))
	token, _, ok := bytes.Cut(rest, []byte(`"`))
	if !ok {
		return ""
	}
	return string(token)
}

func isActive(a answer) error {
	if !bytes.HasPrefix(a.body, []byte(`{"active":true,`)) {
		return errUnexpected
	}
	return nil
}

func isAdmitted(a answer) error {
	if !bytes.Contains(a.head, []byte("\r\nX-Auth-Client-Id: "+clientPrefix)) {
		return errUnexpected
	}
	return nil
}

func isEmpty(a answer) error {
	if len(a.body) != 0 {
		return errUnexpected
	}
	return nil
}
