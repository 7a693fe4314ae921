package watch

import (
	"encoding/json"
	"strings"
	"time"
)

// message is the body that the webhook gets: docs/operations.md describes it.
type message struct {
	Type      string      `json:"type"` // "alert.raised"
	Timestamp time.Time   `json:"timestamp"`
	Data      messageData `json:"data"`
}

type messageData struct {
	ID       string    `json:"id"`
	Issuer   string    `json:"issuer"`
	ClientID string    `json:"client_id"`
	Kind     string    `json:"kind"`
	Subject  string    `json:"subject"`
	RaisedAt time.Time `json:"raised_at"`
	LastAt   time.Time `json:"last_at"`
	Times    int64     `json:"times"` // until this attempt
	Normal   string    `json:"normal"`
	Seen     string    `json:"seen"`
	Why      string    `json:"why"`
	Do       []string  `json:"do"`

	EventID       string `json:"event_id,omitempty"`
	RequestID     string `json:"request_id,omitempty"`
	OtherClientID string `json:"other_client_id,omitempty"`
}

func body(k Kept, issuer string) ([]byte, error) {
	return json.Marshal(message{Type: "alert.raised", Timestamp: k.RaisedAt.UTC(), Data: messageData{
		ID: k.ID, Issuer: issuer, ClientID: k.ClientID, Kind: string(k.Kind), Subject: k.Subject,
		RaisedAt: k.RaisedAt.UTC(), LastAt: k.LastAt.UTC(), Times: k.Times,
		Normal: k.Normal, Seen: k.Seen, Why: k.Why, Do: Lines(k.Do),
		EventID: k.EventID, RequestID: k.RequestID, OtherClientID: k.Other,
	}})
}

// Lines are those of a text that say something.
func Lines(text string) []string {
	all := []string{}
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, "\r\n "); line != "" {
			all = append(all, line)
		}
	}
	return all
}
