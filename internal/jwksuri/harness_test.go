package jwksuri_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/binary"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cargokey/authz/internal/clientassertion"
	"github.com/cargokey/authz/internal/clientassertion/assertiontest"
	"github.com/cargokey/authz/internal/jwksuri"
	"github.com/cargokey/authz/internal/strictjose"
)

// host is a client's host: real TLS, and an answer that tests change.
type host struct {
	*httptest.Server
	requests atomic.Int64
	answer   atomic.Pointer[http.HandlerFunc]
}

// newHost listens at an address of this machine; "" stands for 127.0.0.1.
func newHost(t testing.TB, address string) *host {
	t.Helper()
	if address == "" {
		address = "127.0.0.1"
	}
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Skipf("%s is no address of this machine: %v", address, err)
	}
	h := &host{}
	h.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.requests.Add(1)
		(*h.answer.Load())(w, r)
	}))
	h.Listener.Close()
	h.Listener = l
	h.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	h.StartTLS()
	t.Cleanup(h.Close)
	return h
}

func (h *host) does(f http.HandlerFunc) { h.answer.Store(&f) }

func (h *host) publishes(signers ...*assertiontest.Signer) {
	h.does(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(assertiontest.Set(signers...))) })
}

// port is ":" and the host's port.
func (h *host) port() string { return h.URL[strings.LastIndexByte(h.URL, ':'):] }

// rig is a Fetcher with a log of its own, and a clock that tests alone set forward.
type rig struct {
	*jwksuri.Fetcher
	offset atomic.Int64
	logs   lockedBuffer
}

// newRig trusts the certificates of hosts, and may connect to networks.
func newRig(t testing.TB, resolver *net.Resolver, networks []string, hosts ...*host) *rig {
	t.Helper()
	return newRigParsing(t, clientassertion.Keys, resolver, networks, hosts...)
}

func newRigParsing(t testing.TB, parse func([]byte) ([]strictjose.SetKey, error), resolver *net.Resolver, networks []string, hosts ...*host) *rig {
	t.Helper()
	r, authorities := &rig{}, x509.NewCertPool()
	for _, h := range hosts {
		authorities.AddCert(h.Certificate())
	}
	var allowed []netip.Prefix
	for _, n := range networks {
		allowed = append(allowed, netip.MustParsePrefix(n))
	}
	var err error
	start := time.Now()
	r.Fetcher, err = jwksuri.New(jwksuri.Config{
		Parse: parse, MaxDocument: clientassertion.MaxKeySet, Networks: allowed,
		Authorities: authorities, Resolver: resolver, Log: slog.New(slog.NewTextHandler(&r.logs, nil)),
		Now: func() time.Time { return start.Add(time.Duration(r.offset.Load())) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// loopback is what tests with a host need, and no operator should write.
var loopback = []string{"127.0.0.1/32"}

func (r *rig) advance(d time.Duration) { r.offset.Add(int64(d)) }

// reader is Keys or Again.
type reader func(context.Context, string, int64) ([]strictjose.SetKey, error)

// names are the thumbprints that Keys or Again returned, joined, for the first
// revision of a URI.
func names(t testing.TB, get reader, uri string) string {
	t.Helper()
	return namesAt(t, get, uri, 1)
}

func namesAt(t testing.TB, get reader, uri string, revision int64) string {
	t.Helper()
	keys, err := get(t.Context(), uri, revision)
	if err != nil {
		return "error: " + err.Error()
	}
	var out []string
	for _, k := range keys {
		out = append(out, k.Thumbprint)
	}
	return strings.Join(out, " ")
}

// lockedBuffer takes the log of several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// dns is a real name server, over UDP, that knows one address for all names.
type dns struct {
	address atomic.Pointer[netip.Addr]
	conn    net.PacketConn
}

func newDNS(t testing.TB) *dns {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	d := &dns{conn: conn}
	go func() {
		query := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(query)
			if err != nil {
				return
			}
			conn.WriteTo(d.reply(query[:n]), from)
		}
	}()
	return d
}

func (d *dns) leadsTo(address string) {
	a := netip.MustParseAddr(address)
	d.address.Store(&a)
}

// reply is RFC 1035 §4: the question, and an answer where its type is that of the
// address.
func (d *dns) reply(query []byte) []byte {
	end := 12
	for query[end] != 0 {
		end += int(query[end]) + 1
	}
	end += 5 // the root label, type and class
	kind, data := binary.BigEndian.Uint16(query[end-4:]), d.address.Load().AsSlice()
	reply := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, query[12:end]...)
	if kind == 1 && len(data) == 4 || kind == 28 && len(data) == 16 {
		reply[7] = 1
		reply = append(reply, 0xc0, 12, byte(kind>>8), byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(len(data)))
		reply = append(reply, data...)
	}
	return reply
}

func (d *dns) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", d.conn.LocalAddr().String())
	}}
}
