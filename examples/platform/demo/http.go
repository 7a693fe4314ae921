package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
)

// answer is what came back: the status, and why it was refused.
type answer struct {
	status       int
	code, reason string
	body         []byte
}

// told says it in words.
func (a answer) told() string {
	if a.code == "" && a.reason == "" {
		return fmt.Sprintf("%d %s", a.status, http.StatusText(a.status))
	}
	return fmt.Sprintf("%d %s: %q", a.status, a.code, a.reason)
}

// member is one of a JSON body's.
func (a answer) member(name string) string {
	var body map[string]any
	if json.Unmarshal(a.body, &body) != nil {
		return ""
	}
	value, _ := body[name].(string)
	return value
}

// send sends a request as it is, by a client that adds nothing or by one that
// adds a token and a proof.
func send(ctx context.Context, client *http.Client, method, url, body string, header http.Header) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for name, values := range header {
		request.Header[name] = values
	}
	response, err := client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	a := answer{status: response.StatusCode}
	if a.body, err = io.ReadAll(io.LimitReader(response.Body, 1<<20)); err != nil {
		return answer{}, err
	}
	if a.status >= 400 {
		a.code, a.reason = whyRefused(response.Header, a)
	}
	return a, nil
}

var challengeParameter = regexp.MustCompile(`(error|error_description)="([^"]*)"`)

// whyRefused reads the challenge (RFC 6750 §3, RFC 9449 §7.1), or where there is
// none the body.
func whyRefused(header http.Header, a answer) (code, reason string) {
	for _, m := range challengeParameter.FindAllStringSubmatch(strings.Join(header.Values("WWW-Authenticate"), ", "), -1) {
		if m[1] == "error" {
			code = m[2]
		} else {
			reason = m[2]
		}
	}
	if code == "" {
		code, reason = a.member("error"), a.member("error_description")
	}
	return code, reason
}

// accessLog is a proxy's that writes down whole requests, as a careless one does.
type accessLog struct {
	mu      sync.Mutex
	entries []*http.Request
}

// RoundTrip logs the request and sends it.
func (l *accessLog) RoundTrip(r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	l.entries = append(l.entries, r)
	l.mu.Unlock()
	return http.DefaultTransport.RoundTrip(r)
}

// stolen is what the log has of a request.
type stolen struct{ token, proof string }

// find is what a thief looks for.
func (l *accessLog) find(method, url string) (stolen, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.entries {
		if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "DPoP "); ok && r.Method == method && r.URL.String() == url {
			return stolen{token, r.Header.Get("DPoP")}, nil
		}
	}
	return stolen{}, fmt.Errorf("the log has no %s %s", method, url)
}
