package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of a message (Standard Webhooks, "Webhook headers").
const (
	headerID        = "Webhook-Id"
	headerTimestamp = "Webhook-Timestamp"
	headerSignature = "Webhook-Signature"
)

// tolerance is how far a message's timestamp may be off at its receiver (Standard
// Webhooks, "Verifying webhook authenticity").
const tolerance = 5 * time.Minute

// sign makes the signature of a message by one secret.
func sign(s Secret, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, s.bytes)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// setHeaders signs a message by each secret, so that a receiver may have any of them.
func setHeaders(h http.Header, secrets []Secret, id string, at time.Time, body []byte) {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	var signatures []string
	for _, s := range secrets {
		signatures = append(signatures, sign(s, id, timestamp, body))
	}
	h.Set(headerID, id)
	h.Set(headerTimestamp, timestamp)
	h.Set(headerSignature, strings.Join(signatures, " "))
}

// Errors of Verify.
var (
	ErrSignature = errors.New("no signature of the message is by this secret")
	ErrTimestamp = errors.New("the message's timestamp is more than five minutes off")
)

// Verify is what a receiver does: it checks that a message is by who has the secret,
// and of now.
func Verify(s Secret, h http.Header, body []byte, now time.Time) error {
	id, timestamp := h.Get(headerID), h.Get(headerTimestamp)
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > tolerance {
		return ErrTimestamp
	}
	want := sign(s, id, timestamp, body)
	for signature := range strings.FieldsSeq(h.Get(headerSignature)) {
		if hmac.Equal([]byte(signature), []byte(want)) {
			return nil
		}
	}
	return ErrSignature
}
