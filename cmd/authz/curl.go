package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/cargokey/authz/dpopbind"
)

// call is what "authz curl" sends, and where it writes the answer.
type call struct {
	method, data, output string
	hasData              bool
	headers              []string
	include              bool
}

func (p *program) curlCommand() *cobra.Command {
	var r tokenRequest
	var k call
	c := &cobra.Command{
		Use: "curl URL", Short: "Call an API with a token that is bound to a key", Args: oneArgument,
		Long: `Get a token as "authz request" does, call the URL with it and with a proof, and print
the body of the answer. The token goes to the URL's own origin and nowhere else:
redirects are not followed. With --cert, the API is shown the certificate too; with
--bearer besides, no proof is sent, for a token that is bound to the certificate.

The exit code is 0 only if the API answers 2xx or 3xx; the body is printed anyway.
With --json, print {"status", "headers", "body"}; a body that is not text comes as
"body_base64" instead.`,
		Example: `  authz curl --issuer https://auth.example.com --client-id label-service \
    --client-secret @/run/secrets/label-service --scope label:create \
    -H 'Content-Type: application/json' -d '{"weight": 2}' https://labels.example.com/labels`,
		RunE: func(cmd *cobra.Command, args []string) error {
			k.hasData = cmd.Flags().Changed("data")
			if k.hasData && k.data == "-" && r.clientSecret == "-" {
				return errors.New("--data and --client-secret cannot both be read from standard input")
			}
			var err error
			if r.clientSecret, err = p.argument(r.clientSecret); err != nil {
				return err
			}
			return p.curl(cmd.Context(), r, k, args[0])
		},
	}
	f := c.Flags()
	f.StringVarP(&k.method, "request", "X", "", "the method; without it GET, or POST with --data")
	f.StringVarP(&k.data, "data", "d", "", "the body, sent as it is; @FILE reads it from a file, - from standard input")
	f.StringArrayVarP(&k.headers, "header", "H", nil, "'Name: value': a header; repeatable")
	f.BoolVarP(&k.include, "include", "i", false, "print the status and the headers too")
	f.StringVarP(&k.output, "output", "o", "", "write the body to this file")
	r.flags(c)
	completeFiles(c, "output")
	return c
}

func (p *program) curl(ctx context.Context, r tokenRequest, k call, address string) error {
	u, err := url.Parse(address)
	if err != nil || !u.IsAbs() || u.Host == "" {
		return errors.New("the URL is not absolute: it begins with https://")
	}
	request, err := k.build(ctx, p, address)
	if err != nil {
		return err
	}
	client, err := r.client(dpopbind.ClientConfig{APIs: []string{u.Scheme + "://" + u.Host}})
	if err != nil {
		return refusal(err)
	}
	response, err := client.RoundTrip(request)
	if err != nil {
		return r.keyRefused(err)
	}
	defer response.Body.Close()
	if err := k.show(p, response); err != nil {
		return err
	}
	if response.StatusCode >= http.StatusBadRequest {
		return errors.New(answered(response))
	}
	return nil
}

// answered says what a refusal's challenge says, which bodies often do not.
func answered(response *http.Response) string {
	text := fmt.Sprintf("the API answered %d %s", response.StatusCode, http.StatusText(response.StatusCode))
	for _, challenge := range response.Header.Values("WWW-Authenticate") {
		text += "\n  WWW-Authenticate: " + strings.Map(func(r rune) rune {
			if r < ' ' || r > '~' { // it is another's text, and this may be a terminal
				return '?'
			}
			return r
		}, challenge)
	}
	return text
}

// build makes the request. Its body can be had again, for a proof that the API
// wants with its nonce.
func (k call) build(ctx context.Context, p *program, address string) (*http.Request, error) {
	method := k.method
	var body io.Reader
	if k.hasData {
		data, err := k.read(p)
		if err != nil {
			return nil, fmt.Errorf("--data: %w", err)
		}
		body = bytes.NewReader(data)
		if method == "" {
			method = http.MethodPost
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, err
	}
	for _, header := range k.headers {
		name, value, ok := strings.Cut(header, ":")
		if !ok || name == "" {
			return nil, errors.New("--header: write 'Name: value'")
		}
		if strings.EqualFold(name, "Host") {
			return nil, errors.New("--header: the Host is that of the URL, which the proof is for")
		}
		request.Header.Add(name, strings.TrimSpace(value))
	}
	if k.hasData && request.Header.Get("Content-Type") == "" {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded") // as curl does
	}
	return request, nil
}

func (k call) read(p *program) ([]byte, error) {
	if k.data == "-" {
		return io.ReadAll(p.in)
	}
	if name, ok := strings.CutPrefix(k.data, "@"); ok {
		return os.ReadFile(name)
	}
	return []byte(k.data), nil
}

// apiAnswer is the API's answer as it is printed.
type apiAnswer struct {
	Status     int         `json:"status"`
	Headers    http.Header `json:"headers"`
	Body       *string     `json:"body,omitempty"`
	BodyBase64 []byte      `json:"body_base64,omitempty"`
}

// show prints the answer. A body that is written to a file is not printed.
func (k call) show(p *program, response *http.Response) error {
	a := apiAnswer{Status: response.StatusCode, Headers: response.Header}
	var head bytes.Buffer
	if k.include {
		fmt.Fprintf(&head, "%s %s\r\n", response.Proto, response.Status)
		if err := response.Header.Write(&head); err != nil {
			return err
		}
		head.WriteString("\r\n")
	}
	switch {
	case k.output != "":
		if err := writeBody(k.output, response.Body); err != nil {
			return fmt.Errorf("--output: %w", err)
		}
	case p.json:
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return fmt.Errorf("reading the answer: %w", err)
		}
		if text := string(body); utf8.ValidString(text) {
			a.Body = &text
		} else {
			a.BodyBase64 = body
		}
	}
	if p.json {
		return p.print(a, nil)
	}
	if _, err := p.out.Write(head.Bytes()); err != nil {
		return fmt.Errorf("printing the answer: %w", err)
	}
	if k.output == "" {
		if _, err := io.Copy(p.out, response.Body); err != nil {
			return fmt.Errorf("printing the answer: %w", err)
		}
	}
	return nil
}

// writeBody writes the body to a file, in place of what is there.
func writeBody(name string, body io.Reader) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, body)
	return errors.Join(err, f.Close())
}
