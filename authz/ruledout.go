package authz

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/cargokey/authz/jwks"
)

// maxRuledOutNames bounds how many of each kind the warning names.
const maxRuledOutNames = 5

// ruledOut is how many things there are that the profile rules out, and the first of
// them.
type ruledOut struct {
	count int
	names []string
}

func (r *ruledOut) add(name string) {
	r.count++
	if len(r.names) < maxRuledOutNames {
		r.names = append(r.names, name)
	}
}

// LogValue is for slog.
func (r *ruledOut) LogValue() slog.Value {
	return slog.GroupValue(slog.Int("count", r.count), slog.Any("first", r.names))
}

// warnOfRuledOut tells an operator who has just chosen a profile whom it shuts out:
// they are refused from now on, one request at a time.
func (s *Server) warnOfRuledOut(ctx context.Context) error {
	if s.profile == NoProfile {
		return nil
	}
	clients, err := s.store.Clients(ctx, s.now())
	if err != nil {
		return fmt.Errorf("reading whom the profile rules out: %w", err)
	}
	resources, err := s.store.Resources(ctx)
	if err != nil {
		return fmt.Errorf("reading what the profile rules out: %w", err)
	}
	bySecret, bearer, algorithm := &ruledOut{}, &ruledOut{}, &ruledOut{}
	for _, c := range clients {
		if !c.Disabled() && !s.profile.admitsMethod(c.AuthMethod) {
			bySecret.add(c.ID)
		}
	}
	for _, r := range resources {
		if r.AllowBearer && !s.profile.admitsBearer() {
			bearer.add(r.URI)
		}
		if r.SigningAlg != "" && !s.profile.signs(r.SigningAlg) {
			algorithm.add(r.URI)
		}
	}
	if bySecret.count+bearer.count+algorithm.count == 0 {
		return nil
	}
	s.log.Warn("the profile rules out some of what is registered: clients that authenticate by a secret are refused, bearer tokens are not issued, and no token for a resource that wants "+string(jwks.RS256),
		"profile", string(s.profile), "clients_by_secret", bySecret, "resources_with_bearer_tokens", bearer, "resources_by_rs256", algorithm)
	return nil
}
