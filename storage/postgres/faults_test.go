package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/pgdev/pgtest"
	"github.com/cargokey/authz/storage/postgres"
)

// faulty is a write that faults are tried on.
type faulty struct {
	// begin makes the n-th of such writes: the same one each time that what it
	// returns is called.
	begin func(n int) func() error
	// adds is what the write adds to the tables, removes counting as less.
	adds rows
	// again is how the write fails if it was done before; nil: it does not,
	// and adds addsAgain.
	again     error
	addsAgain rows
}

// rows are numbers of rows by table.
type rows map[string]int

func tables() []string {
	return []string{"resources", "resource_scopes", "clients", "client_secrets", "grants", "gateway_resources",
		"resource_base_urls", "routes", "gateway_revision", "client_dpop_keys", "revoked_dpop_keys", "signing_keys", "tokens", "spent_proofs", "audit_events"}
}

func TestWriteThatFailsWasDoneWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	for _, name := range append(faultyNames(), dpopWriteNames()...) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			admin := connect(t, db.OwnerURL)
			url, options := db.OwnerURL, []postgres.Option(nil)
			if serverWrites(name) {
				url, options = db.ServerURL, []postgres.Option{postgres.AsServer()}
			}
			populate(t, open(t, db.OwnerURL), clock())
			store, w := openWired(t, url, options...)
			f := newFaulty(t, name, store, admin)
			if f.begin == nil {
				f = dpopWrites(t, store, open(t, db.OwnerURL))[name]
			}
			tryFaults(t, f, w, admin)
		})
	}
}

// tryFaults spoils each round trip of a write in both ways.
func tryFaults(t *testing.T, f faulty, w *wire, admin *pgx.Conn) {
	n := 0
	next := func() func() error {
		n++
		return f.begin(n)
	}
	must(t, next()()) // prepares its statements
	trips := w.count(t, next())
	if trips == 0 {
		t.Fatal("the write makes no round trip")
	}
	for at := 1; at <= trips; at++ {
		for _, fault := range []fault{cut, lost} {
			w.arm(none, 0)
			must(t, next()()) // on the connection that replaced the broken one
			do := next()
			before := dump(t, admin)
			w.arm(fault, at)
			err := do()
			w.arm(none, 0)
			where := fmt.Sprintf("round trip %d of %d, %s", at, trips, fault)
			if err == nil {
				t.Fatalf("%s: it succeeded", where)
			}
			for _, verdict := range []error{authz.ErrExists, authz.ErrNotFound, authz.ErrProofSpent, authz.ErrClientChanged, authz.ErrInUse, authz.ErrNotDefined,
				authz.ErrChanged, authz.ErrURLTaken, authz.ErrNameTaken, authz.ErrOnlySigner} {
				if errors.Is(err, verdict) {
					t.Errorf("%s: it reports %v, which nobody knows", where, err)
				}
			}
			after := dump(t, admin)
			done := fault == lost && at == trips
			if done {
				checkRows(t, where+", then", f.adds, before, after)
			} else if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("%s: something was written (-before +after):\n%s", where, diff)
			}
			err = do()
			switch {
			case !done:
				if err != nil {
					t.Errorf("%s, tried again: %v", where, err)
				}
				checkRows(t, where+", tried again", f.adds, after, dump(t, admin))
			default:
				if !errors.Is(err, f.again) {
					t.Errorf("%s, tried again: %v, want %v", where, err, f.again)
				}
				checkRows(t, where+", tried again", f.addsAgain, after, dump(t, admin))
			}
		}
	}
}

// dump is every row of every table, as text.
func dump(t *testing.T, admin *pgx.Conn) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, table := range tables() {
		all[table] = list[string](t, admin, `select r::text from authz.`+table+` r order by 1`)
	}
	return all
}

func checkRows(t *testing.T, when string, want rows, before, after map[string][]string) {
	t.Helper()
	got := rows{}
	for _, table := range tables() {
		if n := len(after[table]) - len(before[table]); n != 0 {
			got[table] = n
		}
	}
	if want == nil {
		want = rows{}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: rows added (-want +got):\n%s", when, diff)
	}
}

func faultyNames() []string {
	return []string{"RecordToken bound", "RecordToken bearer", "RevokeToken", "RevokeTokenByJTI", "AddFirstSigningKey",
		"AddNextSigningKey", "AddSigningKey", "RetireSigningKey", "RevokeSigningKey", "ResealSigningKeys",
		"AdmitCall", "CreateClient", "SetClientDisabled", "SetClientDisabled off", "DeleteClient", "RotateSecret", "SetClientCertificate",
		"CreateResource", "UpdateResource", "DeleteResource", "ClaimMoved", "ClaimRestored"}
}

func serverWrites(name string) bool {
	return strings.Contains(name, "Token") && !strings.HasSuffix(name, "Tokens") || name == "AddFirstSigningKey" || name == "AddNextSigningKey" || name == "AdmitCall" || name == "EndorseKey"
}

func newFaulty(t *testing.T, name string, s *postgres.Store, admin *pgx.Conn) faulty {
	f := tokenWrites(t, s, admin)[name]
	if f.begin == nil {
		f = clientWrites(t, s)[name]
	}
	if f.begin == nil {
		f = resourceWrites(t, s)[name]
	}
	if f.begin == nil {
		f = signingKeyWrites(t, s, admin)[name]
	}
	if f.begin == nil {
		f = claims(t, s)[name]
	}
	return f
}

func tokenWrites(t *testing.T, s *postgres.Store, admin *pgx.Conn) map[string]faulty {
	ctx := t.Context()
	recorded := func() authz.Token {
		i := issue(clock())
		must(t, s.RecordToken(ctx, i))
		return i.Token
	}
	return map[string]faulty{
		"RecordToken bound": {
			begin: func(int) func() error {
				i := issue(clock())
				return func() error { return s.RecordToken(ctx, i) }
			},
			adds:  rows{"tokens": 1, "spent_proofs": 1, "audit_events": 1},
			again: authz.ErrProofSpent,
		},
		"RecordToken bearer": {
			begin: func(int) func() error {
				i := issue(clock())
				return func() error {
					// Nothing but its random name makes a bearer token: the
					// caller tries again with another.
					i.Proof, i.Token.JTI, i.Token.Digest = nil, authz.NewJTI(clock()), randomDigest()
					return s.RecordToken(ctx, i)
				}
			},
			adds:      rows{"tokens": 1, "audit_events": 1},
			addsAgain: rows{"tokens": 1, "audit_events": 1},
		},
		"AdmitCall": {
			begin: func(int) func() error {
				call := goodCall(t, s, recorded())
				return func() error {
					v, err := s.AdmitCall(ctx, call, clock())
					if err == nil && !v.Spent {
						return authz.ErrProofSpent
					}
					return err
				}
			},
			adds:  rows{"spent_proofs": 1},
			again: authz.ErrProofSpent,
		},
		"RevokeToken": {
			begin: func(int) func() error {
				token, e := recorded(), event(authz.AuditTokenRevoked, clock())
				return func() error { _, err := s.RevokeToken(ctx, token.Digest, shopCaller(), e); return err }
			},
			adds: rows{"audit_events": 1},
		},
		"RevokeTokenByJTI": {
			begin: func(int) func() error {
				token, e := recorded(), event(authz.AuditTokenRevoked, clock())
				return func() error { _, err := s.RevokeTokenByJTI(ctx, token.JTI, e); return err }
			},
			adds: rows{"audit_events": 1},
		},
	}
}

func clientWrites(t *testing.T, s *postgres.Store) map[string]faulty {
	ctx := t.Context()
	created := func(n int) string {
		c := newClient(fmt.Sprintf("client-%d", n))
		must(t, s.CreateClient(ctx, c, event(authz.AuditClientCreated, clock())))
		return c.ID
	}
	return map[string]faulty{
		"CreateClient": {
			begin: func(n int) func() error {
				c, e := newClient(fmt.Sprintf("client-%d", n)), event(authz.AuditClientCreated, clock())
				c.Secrets = append(c.Secrets, randomDigest())
				c.Introspects = []string{labels}
				return func() error { return s.CreateClient(ctx, c, e) }
			},
			adds:  rows{"clients": 1, "client_secrets": 2, "grants": 1, "gateway_resources": 1, "audit_events": 1},
			again: authz.ErrExists,
		},
		"RotateSecret": {
			begin: func(n int) func() error {
				id, secret, e := created(n), randomDigest(), event(authz.AuditSecretRotated, clock())
				return func() error { return s.RotateSecret(ctx, id, secret, e.At.Add(time.Hour), e) }
			},
			adds:  rows{"client_secrets": 1, "audit_events": 1},
			again: authz.ErrExists,
		},
		"SetClientCertificate": {
			begin: func(n int) func() error {
				c, e := newClient(fmt.Sprintf("client-%d", n)), event(authz.AuditClientUpdated, clock())
				c.AuthMethod, c.Secrets, c.TLSName = authz.TLSClientAuth, nil, authz.CertificateName{DNS: c.ID + ".example.com"}
				must(t, s.CreateClient(ctx, c, event(authz.AuditClientCreated, clock())))
				to := authz.CertificateTerms{Name: authz.CertificateName{URI: "spiffe://example.com/" + c.ID}, Bound: true}
				return func() error { return s.SetClientCertificate(ctx, c.ID, c.CertificateTerms(), to, e) }
			},
			adds:  rows{"audit_events": 1},
			again: authz.ErrChanged,
		},
		"SetClientDisabled": {
			begin: func(n int) func() error {
				id, e := created(n), event(authz.AuditClientDisabled, clock())
				return func() error { return s.SetClientDisabled(ctx, id, true, e) }
			},
			adds:      rows{"audit_events": 1},
			addsAgain: rows{"audit_events": 1}, // a second command, and a second line about it
		},
		"SetClientDisabled off": {
			begin: func(n int) func() error {
				id, e := created(n), event(authz.AuditClientEnabled, clock())
				must(t, s.SetClientDisabled(ctx, id, true, event(authz.AuditClientDisabled, clock())))
				return func() error { return s.SetClientDisabled(ctx, id, false, e) }
			},
			adds:      rows{"audit_events": 1},
			addsAgain: rows{"audit_events": 1},
		},
		"DeleteClient": {
			begin: func(n int) func() error {
				id, e := created(n), event(authz.AuditClientDeleted, clock())
				return func() error { return s.DeleteClient(ctx, id, e) }
			},
			adds:  rows{"clients": -1, "client_secrets": -1, "grants": -1, "audit_events": 1},
			again: authz.ErrNotFound,
		},
	}
}

func resourceWrites(t *testing.T, s *postgres.Store) map[string]faulty {
	ctx := t.Context()
	numbered := func(n int) *authz.Resource {
		r := newResource(fmt.Sprintf("urn:resource:%d", n))
		r.BaseURLs = []string{fmt.Sprintf("https://api-%d.example.com", n)}
		r.Routes = []authz.Route{{Path: "/", Scopes: []string{"read"}}, {Method: "POST", Path: "/"}}
		return r
	}
	created := func(n int) *authz.Resource {
		r := numbered(n)
		must(t, s.CreateResource(ctx, r, event(authz.AuditResourceCreated, clock())))
		return r
	}
	return map[string]faulty{
		"CreateResource": {
			begin: func(n int) func() error {
				r, e := numbered(n), event(authz.AuditResourceCreated, clock())
				return func() error { return s.CreateResource(ctx, r, e) }
			},
			adds:  rows{"resources": 1, "resource_scopes": 2, "resource_base_urls": 1, "routes": 2, "audit_events": 1},
			again: authz.ErrExists,
		},
		"UpdateResource": {
			begin: func(n int) func() error {
				r, e := created(n), event(authz.AuditResourceUpdated, clock())
				r.Scopes, r.TokenTTL = []string{"all"}, time.Hour
				r.BaseURLs = append(r.BaseURLs, fmt.Sprintf("https://b-%d.example.com", n))
				r.Routes = []authz.Route{{Path: "/", Scopes: []string{"all"}}}
				return func() error { return s.UpdateResource(ctx, r, e) }
			},
			adds:  rows{"resource_scopes": -1, "resource_base_urls": 1, "routes": -1, "audit_events": 1},
			again: authz.ErrChanged,
		},
		"DeleteResource": {
			begin: func(n int) func() error {
				r, e := created(n), event(authz.AuditResourceDeleted, clock())
				return func() error { return s.DeleteResource(ctx, r.URI, e) }
			},
			adds:  rows{"resources": -1, "resource_scopes": -2, "resource_base_urls": -1, "routes": -2, "audit_events": 1},
			again: authz.ErrNotFound,
		},
	}
}

func TestMaintainThatFailsIsMadeGoodByTheNext(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	admin := connect(t, db.OwnerURL)
	now := clock()
	store, w := openWired(t, db.ServerURL, postgres.AsServer())
	must(t, store.Maintain(t.Context(), now))
	whole := partitions(t, admin)
	// Each begins with a partition to make and three to drop.
	begin := func() {
		exec(t, admin, `drop table authz.`+whole[len(whole)-1])
		for _, family := range []string{"tokens", "spent_proofs"} {
			makePartition(t, admin, family, now.Add(-5*time.Hour))
		}
		makePartition(t, admin, "audit_events", now.Add(-100*24*time.Hour))
	}
	begin()
	trips := w.count(t, func() error { return store.Maintain(t.Context(), now) })
	if trips < 7 {
		t.Fatalf("%d round trips: it cannot have made one and dropped three", trips)
	}
	for at := 1; at <= trips; at++ {
		for _, fault := range []fault{cut, lost} {
			w.arm(none, 0)
			must(t, store.Maintain(t.Context(), now))
			begin()
			w.arm(fault, at)
			if err := store.Maintain(t.Context(), now); err == nil {
				t.Fatalf("round trip %d, %s: it succeeded", at, fault)
			}
			w.arm(none, 0)
			must(t, store.Maintain(t.Context(), now))
			same(t, whole, partitions(t, admin))
		}
	}
}
