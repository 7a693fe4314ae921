package dpopbind

import (
	"net/http"
	"strings"
)

// roundTrip sends a request that carries credentials. A peer that sends them
// back where no header should be gets them into the transport's error: they are
// taken out of its text.
func roundTrip(transport http.RoundTripper, r *http.Request) (*http.Response, error) {
	response, err := transport.RoundTrip(r)
	if err == nil {
		return response, nil
	}
	text := err.Error()
	_, credentials, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	for _, secret := range []string{credentials, r.Header.Get("DPoP")} {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "[redacted]")
		}
	}
	if text == err.Error() {
		return response, err
	}
	return response, &redactedError{text}
}

// redactedError stands for an error whose text held credentials. That one is
// not kept: it would still hold them.
type redactedError struct{ text string }

func (e *redactedError) Error() string { return e.text }
