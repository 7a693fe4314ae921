package watch_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/behaviour"
	"github.com/cargokey/authz/internal/watch"
	"github.com/cargokey/authz/internal/webhook"
)

// receiver is one that checks what it gets, and does as answer says with it.
type receiver struct {
	t      *testing.T
	server *httptest.Server
	secret webhook.Secret
	text   string

	mu     sync.Mutex
	answer func(m message) int // nil: it takes all; 0: the connection breaks
	tried  []message
	taken  []message // each once, in the order of the first time
}

// message is what docs/operations.md promises.
type message struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      struct {
		ID       string   `json:"id"`
		Issuer   string   `json:"issuer"`
		ClientID string   `json:"client_id"`
		Kind     string   `json:"kind"`
		Subject  string   `json:"subject"`
		Normal   string   `json:"normal"`
		Seen     string   `json:"seen"`
		Why      string   `json:"why"`
		Do       []string `json:"do"`
		Times    int      `json:"times"`
		EventID  string   `json:"event_id"`
	} `json:"data"`
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{t: t, text: "whsec_" + base64.StdEncoding.EncodeToString([]byte("the secret of the webhook, 32 b."))}
	var err error
	r.secret, err = webhook.ParseSecret(r.text)
	must(t, err)
	r.server = httptest.NewTLSServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.server.Close)
	return r
}

func (r *receiver) serve(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return // it was given up
	}
	if err := webhook.Verify(r.secret, request.Header, body, time.Now()); err != nil {
		r.t.Error(err)
	}
	var m message
	if err := json.Unmarshal(body, &m); err != nil || m.Type != "alert.raised" || m.Data.ID != request.Header.Get("Webhook-Id") ||
		m.Data.Issuer != "https://auth.test" || m.Data.Seen == "" || m.Data.Why == "" || len(m.Data.Do) == 0 || request.URL.Path != "/sesame" {
		r.t.Errorf("%v: %s to %s", err, body, request.URL)
	}
	r.mu.Lock()
	answer := r.answer
	r.tried = append(r.tried, m)
	r.mu.Unlock()
	status := http.StatusNoContent
	if answer != nil {
		status = answer(m)
	}
	switch {
	case status == 0:
		panic(http.ErrAbortHandler)
	case status < 300:
		r.mu.Lock()
		if !slices.ContainsFunc(r.taken, func(t message) bool { return t.Data.ID == m.Data.ID }) {
			r.taken = append(r.taken, m)
		}
		r.mu.Unlock()
	case status < 400:
		w.Header().Set("Location", "/elsewhere")
	}
	w.WriteHeader(status)
}

func (r *receiver) do(answer func(m message) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

// got are the subjects that the receiver has taken, of a client.
func (r *receiver) got(client string) (subjects []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.taken {
		if m.Data.ClientID == client {
			subjects = append(subjects, m.Data.Subject)
		}
	}
	return subjects
}

// sends has an instance send alerts to the receiver.
func (r *receiver) sends(c *watch.Config) {
	authorities := x509.NewCertPool()
	authorities.AddCert(r.server.Certificate())
	endpoint, err := webhook.New(webhook.Config{URL: r.server.URL + "/sesame", Secrets: []webhook.Secret{r.secret}, Authorities: authorities})
	must(r.t, err)
	c.Webhook = endpoint
}

// Every way there is not to take an alert.
func troublesome() func(message) int {
	hang := make(chan struct{})
	time.AfterFunc(200*time.Millisecond, func() { close(hang) })
	return func(message) int {
		switch rand.IntN(6) {
		case 0:
			return http.StatusInternalServerError
		case 1:
			return http.StatusTemporaryRedirect
		case 2:
			return http.StatusTooManyRequests
		case 3:
			return 0
		case 4:
			<-hang
			return http.StatusBadGateway
		}
		return http.StatusOK
	}
}

func TestAlertsAreDeliveredInTheOrderOfEachClientWhateverTheReceiverDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "shop", "edge")
	r := newReceiver(t)
	r.do(troublesome())
	i := w.start(r.sends)
	var want []string
	for n := range 4 {
		subject := fmt.Sprint("secret", n)
		want = append(want, subject)
		w.write(w.retired("shop", subject), w.retired("edge", subject))
	}
	w.await("all are taken", func() bool { return len(r.got("shop")) == len(want) && len(r.got("edge")) == len(want) })
	for _, client := range []string{"shop", "edge"} {
		if got := r.got(client); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", client, got, want)
		}
	}
	w.await("all are known to be delivered", func() bool {
		return i.metric("authz_alerts_undelivered") == 0 && i.metric("authz_alert_deliveries_total", "delivered") >= 8
	})
	for _, a := range w.alerts() {
		if !a.Delivery.Wanted || a.Delivery.DeliveredAt.IsZero() || a.Delivery.Attempts == 0 {
			t.Errorf("%+v", a.Delivery)
		}
	}
	if log := w.log.String(); strings.Contains(log, "sesame") || strings.Contains(log, strings.TrimPrefix(r.text, "whsec_")) {
		t.Errorf("the webhook's URL or its secret is in the log:\n%s", log)
	}
}

// One client's alert that is not taken holds up that client's, and nobody else's.
func TestAClientsAlertsWaitForItsOwnAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "shop", "edge")
	r := newReceiver(t)
	r.do(func(m message) int {
		if m.Data.ClientID == "shop" && m.Data.Subject == "one" {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	i := w.start(r.sends)
	for _, subject := range []string{"one", "two"} {
		w.write(w.retired("shop", subject), w.retired("edge", subject))
	}
	w.await("the other's are taken", func() bool { return len(r.got("edge")) == 2 })
	w.await("it is tried again and again", func() bool { return i.metric("authz_alert_deliveries_total", "refused") > 3 })
	if got := r.got("shop"); len(got) != 0 || i.metric("authz_alerts_undelivered") != 2 {
		t.Errorf("taken: %q", got)
	}
	if !strings.Contains(w.log.String(), "it answers 503") {
		t.Errorf("the log does not say why:\n%s", &w.log)
	}
	r.do(nil)
	w.await("all are taken", func() bool { return slices.Equal(r.got("shop"), []string{"one", "two"}) })
}

func TestAlertsAreDeliveredAtLeastOnceHoweverInstancesEnd(t *testing.T) {
	t.Parallel()
	var clients []string
	for i := range 6 {
		clients = append(clients, clientName(i))
	}
	w := newWorld(t, clients...)
	r := newReceiver(t)
	r.do(troublesome())
	instances := []*instance{w.start(r.sends), w.start(r.sends)}
	for n := range 4 {
		var events []authz.AuditEvent
		for _, client := range clients {
			events = append(events, w.retired(client, fmt.Sprint("secret", n)))
		}
		w.write(events...)
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
		i := rand.IntN(len(instances))
		instances[i].end()
		instances[i] = w.start(r.sends)
	}
	r.do(nil)
	want := []string{"secret0", "secret1", "secret2", "secret3"}
	for _, client := range clients {
		w.await("all are taken", func() bool { return len(r.got(client)) >= len(want) })
		if got := r.got(client); !slices.Equal(got, want) {
			t.Errorf("%s: %q", client, got)
		}
	}
}

func TestWithoutAWebhookAlertsAreKeptAndWhatWaitsIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "shop")
	r := newReceiver(t)
	r.do(func(message) int { return http.StatusNotFound })
	first := w.start(r.sends)
	w.write(w.retired("shop", "one"))
	w.await("it is tried", func() bool { return first.metric("authz_alert_deliveries_total", "refused") > 0 })
	first.end()
	second := w.start(nil)
	w.write(w.retired("shop", "two"))
	w.await("the second is an alert", func() bool { return len(w.alerts()) == 2 })
	w.await("it is told", func() bool {
		return second.metric("authz_alerts_undelivered") == 1 && strings.Contains(w.log.String(), "alerts wait for a webhook")
	})
	for _, a := range w.alerts() {
		if a.Kind != behaviour.RetiredSecret || a.Delivery.Wanted != (a.Subject == "one") {
			t.Errorf("%+v", a)
		}
	}
}
