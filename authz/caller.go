package authz

// Caller is a client as it has authenticated: as it was when it was read, for this
// request or for an earlier one. A Store does nothing for one that is of another
// Revision by now: it may be disabled, registered anew, or stripped of its tokens or
// of what it has authenticated by.
type Caller struct {
	ClientID string
	Revision int64    // Client's
	Fronts   []string // Client's Introspects
}

// Caller is the client as it has authenticated.
func (c *Client) Caller() Caller {
	return Caller{ClientID: c.ID, Revision: c.Revision, Fronts: c.Introspects}
}
