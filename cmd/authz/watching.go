package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cargokey/authz/internal/watch"
	"github.com/cargokey/authz/internal/webhook"
	"github.com/cargokey/authz/storage/postgres"
)

// watching is an instance's part in the analysis of clients' behaviour; the zero value
// has one, and no webhook.
type watching struct {
	off     bool
	webhook *webhook.Endpoint // nil: none
}

// watching reads the settings of the analysis. Its errors repeat neither the webhook's
// URL, which may be all that keeps others from sending to it, nor its secret.
func (c *config) watching() (watching, error) {
	w := watching{off: c.Behaviour == "off"}
	secrets, err := readSecret("AUTHZ_ALERT_WEBHOOK_SECRET", c.AlertWebhookSecret, c.AlertWebhookSecretFile)
	if err != nil {
		return w, err
	}
	switch {
	case c.AlertWebhook == "" && secrets == "":
		return w, nil
	case c.AlertWebhook == "":
		return w, errors.New("AUTHZ_ALERT_WEBHOOK is not set, and its secret is; it may be: " + fieldTag("AlertWebhook", "desc"))
	case secrets == "":
		return w, errors.New("AUTHZ_ALERT_WEBHOOK_SECRET is not set; it is: " + fieldTag("AlertWebhookSecret", "desc"))
	}
	if err := webhook.ValidateURL(string(c.AlertWebhook)); err != nil {
		return w, fmt.Errorf("AUTHZ_ALERT_WEBHOOK does not do: %w; it may be: %s", err, fieldTag("AlertWebhook", "desc"))
	}
	config := webhook.Config{URL: string(c.AlertWebhook), UserAgent: "authz/" + thisBuild().Version}
	for one := range strings.SplitSeq(secrets, ",") {
		secret, err := webhook.ParseSecret(strings.TrimSpace(one))
		if err != nil {
			return w, fmt.Errorf("AUTHZ_ALERT_WEBHOOK_SECRET does not do: %w; it is: %s", err, fieldTag("AlertWebhookSecret", "desc"))
		}
		config.Secrets = append(config.Secrets, secret)
	}
	w.webhook, err = webhook.New(config)
	return w, err
}

// watch has the instance take part in the analysis until ctx ends, beside the requests.
// It returns what waits for the end.
func (i *instance) watch(ctx context.Context, store *postgres.Store, registry *prometheus.Registry) (end func(), err error) {
	if i.watching.off {
		return func() {}, nil
	}
	c := watch.Config{
		Keeper: store, Log: i.config.Log, Metrics: registry, Now: i.config.Now, Issuer: i.config.Issuer,
		ProofLifetime: i.config.ProofLifetime, ClockSkew: i.config.ClockSkew,
	}
	if i.watching.webhook != nil {
		c.Webhook = i.watching.webhook
	}
	w, err := watch.New(c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	return func() { cancel(); i.end("the analysis of behaviour", func() { <-done }) }, nil
}
