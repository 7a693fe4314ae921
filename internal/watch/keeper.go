package watch

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/internal/behaviour"
)

// Follower is the name that the analysis follows the trail by: of all instances one at a
// time does.
const Follower = "behaviour"

// Keeper is what the analysis needs of the database. *postgres.Store is one.
type Keeper interface {
	// Trail returns events after a position that are final, in the order of positions:
	// none ever appears before one that was returned.
	Trail(ctx context.Context, after authz.TrailPosition, limit int) ([]authz.TrailEvent, error)
	// OldestAfter is when the first event after a position was, though it be not final; the
	// zero time: there is none.
	OldestAfter(ctx context.Context, after authz.TrailPosition) (time.Time, error)
	// Follow takes or renews the lease of a follower by the database's clock, and tells
	// where it stands.
	Follow(ctx context.Context, name, holder string, hold time.Duration) (at authz.TrailPosition, held bool, err error)

	// Fleet returns what is kept of all clients together, and the number that the next
	// Findings have.
	Fleet(ctx context.Context) (fleet json.RawMessage, number int64, err error)
	// Baselines returns those that are kept of the clients, by client.
	Baselines(ctx context.Context, clients []string) (map[string]json.RawMessage, error)
	// KeyOwners returns who has first shown each key, where that is known and the
	// client is still registered, by key.
	KeyOwners(ctx context.Context, jkts []string) (map[string]KeyOwner, error)
	// KeepFindings writes all of a Findings in one transaction, or nothing: ErrNotHeld where
	// another holds the follower or it stands elsewhere than at From, or somebody has
	// kept something since the number was read, and ErrUnkeepable
	// where the database does not take what was found, whenever it is tried. It
	// returns the alerts that are new, as they are kept: the others are folded.
	KeepFindings(ctx context.Context, f Findings) ([]Kept, error)
	// ForgetBehaviour removes what has outlived its use: alerts, with their deliveries, that
	// nothing was added to for AlertsKept, and, of the keys after a name, so many at
	// most, those that were not shown for KeysKept or whose client is gone. It returns
	// the name to go on after, which is empty at the end of a round.
	ForgetBehaviour(ctx context.Context, now time.Time, after string, keys int) (next string, err error)

	// DueDeliveries returns of each client the first alert that is not delivered, where it is
	// due by the database's clock, those that are due for longest first.
	DueDeliveries(ctx context.Context, limit int) ([]Delivery, error)
	// BeginDelivery notes that an attempt to deliver begins, and that nobody else makes one
	// for so long. False: somebody else does.
	BeginDelivery(ctx context.Context, d Delivery, alone time.Duration) (bool, error)
	// EndDelivery ends a delivery, and PostponeDelivery says when it is due again.
	EndDelivery(ctx context.Context, d Delivery, at time.Time) error
	PostponeDelivery(ctx context.Context, d Delivery, wait time.Duration) error
	// UndeliveredAlerts tells how many deliveries are to come, and since when the oldest of
	// them waits.
	UndeliveredAlerts(ctx context.Context) (n int, since time.Time, err error)
}

// Errors of a Keeper.
var (
	// ErrNotHeld is authz.ErrNotHeld: somebody else is at work.
	ErrNotHeld = authz.ErrNotHeld
	// ErrUnkeepable is of findings that the database will never take.
	ErrUnkeepable = errors.New("what was found cannot be kept")
)

// How long what is found is kept.
const (
	// AlertsKept is counted from the last time that an alert was raised.
	AlertsKept = 90 * 24 * time.Hour
	// KeysKept is how long it is known who has shown a key.
	KeysKept = 90 * 24 * time.Hour
	// Silence is how long an alert is folded into one that is alike and that nobody
	// has acknowledged.
	Silence = 7 * 24 * time.Hour
	// MaxOpen is how many alerts of one client and kind are told apart at a time. What
	// comes beyond it is folded into one more, whose subject is behaviour.Further: who makes a
	// client show any number of keys is not to bury what else there is.
	MaxOpen = 20
)

// KeyOwner is the client that has first shown a key.
type KeyOwner struct {
	JKT        string
	ClientID   string
	FirstShown time.Time
	LastShown  time.Time
}

// Findings are what the analysis has found between two positions of the trail, which may
// be the same: time alone makes an alert due that was held back.
type Findings struct {
	Holder   string
	Number   int64
	From, To authz.TrailPosition
	At       time.Time // of writing them

	Fleet     json.RawMessage            // nil: as it is
	Baselines map[string]json.RawMessage // by client
	Deleted   []string                   // clients of which nothing is known any more
	Owned     []KeyOwner                 // keys that nobody had shown
	Shown     []KeyOwner                 // keys that were shown again after a day or more
	Alerts    []Raised
	Deliver   bool // whether new alerts go to a webhook
}

// Raised are alerts of one client, kind and subject: the first of them, how many there
// are and when the last was.
type Raised struct {
	behaviour.Alert
	ID    string
	Times int64
	Last  time.Time
}

// Kept is an alert as it is kept.
type Kept struct {
	ID        string
	ClientID  string
	Kind      behaviour.AlertKind
	Subject   string
	RaisedAt  time.Time // when the first of what is folded into it was
	LastAt    time.Time
	Times     int64
	Normal    string
	Seen      string
	Why       string
	Do        string
	EventID   string
	RequestID string
	Other     string

	AcknowledgedAt time.Time // zero: it is not
	AcknowledgedBy string
	Note           string
	Delivery       DeliveryState
}

// DeliveryState is how far an alert has come on its way to the webhook.
type DeliveryState struct {
	Wanted      bool // false: there was no webhook when it was raised
	Attempts    int
	DueAt       time.Time // of the next attempt
	DeliveredAt time.Time // zero: it is not
}

// Delivery is an alert that is to go to the webhook.
type Delivery struct {
	Kept
	Attempts int // that were begun
}
