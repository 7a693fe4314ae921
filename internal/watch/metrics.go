package watch

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cargokey/authz/internal/behaviour"
)

// metrics are what an instance counts of the analysis. All are of the instance that is
// at it, and stand still or are zero on the others.
type metrics struct {
	events      *prometheus.CounterVec
	alerts      *prometheus.CounterVec
	deliveries  *prometheus.CounterVec
	undelivered prometheus.Gauge
	active      prometheus.Gauge
}

// The outcomes of an attempt to deliver an alert.
const (
	outcomeDelivered = "delivered"
	outcomeRefused   = "refused" // it was answered, with something else than a 2xx
	outcomeFailed    = "failed"  // it was not answered
)

func newMetrics(r prometheus.Registerer, lag func() float64) *metrics {
	m := &metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authz_behaviour_events_total", Help: "Events of the audit trail that the analysis of clients' behaviour has read: observed, ignored as of no concern, or skipped, since they do not read.",
		}, []string{"outcome"}),
		alerts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authz_alerts_total", Help: "Alerts raised, by kind; those that are folded into one that is there are not counted again.",
		}, []string{"kind"}),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authz_alert_deliveries_total", Help: "Attempts to deliver an alert to the webhook: delivered, refused (answered with anything but a 2xx) or failed (not answered).",
		}, []string{"outcome"}),
		undelivered: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "authz_alerts_undelivered", Help: "Alerts that wait for the webhook, as the instance knows that analyses behaviour; 0 on the others.",
		}),
		active: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "authz_behaviour_active", Help: "1 on the one instance that analyses behaviour.",
		}),
	}
	lagging := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "authz_behaviour_lag_seconds", Help: "How far the analysis of behaviour is behind the audit trail; 0 on instances that are not at it.",
	}, lag)
	for _, outcome := range []string{"observed", "ignored", "skipped"} {
		m.events.WithLabelValues(outcome)
	}
	for _, kind := range behaviour.AlertKinds() {
		m.alerts.WithLabelValues(string(kind))
	}
	for _, outcome := range []string{outcomeDelivered, outcomeRefused, outcomeFailed} {
		m.deliveries.WithLabelValues(outcome)
	}
	r.MustRegister(m.events, m.alerts, m.deliveries, m.undelivered, m.active, lagging)
	return m
}
