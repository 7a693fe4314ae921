package authz

// Caller is a client as it has authenticated: by what, and as which registration of
// its name. Between that and what it asks for its own host may hold a request open,
// where it publishes its keys. So a Store does nothing for one that is not enabled,
// that was registered anew, disabled or stripped of its tokens since, or that has
// not what it authenticated by any more.
type Caller struct {
	ClientID string
	// Credential is Client's; empty where a listener of its own knows the client by
	// its connection, of which the Store knows nothing.
	Credential   string
	Generation   int64 // Client's
	AuthRevision int64 // Client's
	// Revision is Client's where the client was read for an earlier request, and must
	// be what it was then in every respect; else 0.
	Revision int64
}

// Caller is the client as it has authenticated.
func (c *Client) Caller() Caller {
	caller := Caller{ClientID: c.ID, Credential: c.Credential, Generation: c.Generation, AuthRevision: c.AuthRevision}
	if c.Kept {
		caller.Revision = c.Revision
	}
	return caller
}
