package main

import (
	"context"
	"fmt"
	"time"
)

// dpopCost is what DPoP adds to a token request that comes alone: one connection
// asks for a bound token and for a bearer token in turn, so that a disk that is
// slow for a second is so for both. It returns the difference of the two medians,
// one for each round, in microseconds.
func (b *bench) dpopCost(ctx context.Context) ([]float64, error) {
	const each = 400 // of both
	b.say("what DPoP adds")
	var more []float64
	for range b.o.rounds {
		bound, err := b.kit.boundRequests(b.server, each)
		if err != nil {
			return nil, err
		}
		bearer, err := b.kit.bearerRequests(b.server, 1)
		if err != nil {
			return nil, err
		}
		var requests [][]byte
		for _, one := range bound {
			requests = append(requests, one, bearer[0])
		}
		o, err := turn{
			address: b.server.public, connections: 1, requests: requests, check: isAnyToken,
			until: 2 * b.o.duration, // of a disk that is very slow fewer will do
		}.run(ctx)
		if err != nil {
			return nil, fmt.Errorf("what DPoP adds: %w", err)
		}
		var took [2][]time.Duration
		for i, latency := range o.latencies {
			took[i%2] = append(took[i%2], latency)
		}
		if len(took[1]) > 0 {
			more = append(more, micros(quantile(took[0], 50)-quantile(took[1], 50)))
		}
	}
	return more, nil
}

// wantsDPoPCost tells whether both kinds of token are measured, one at a time.
func (b *bench) wantsDPoPCost() bool {
	named := map[string]bool{}
	for _, g := range b.groups {
		for _, r := range g {
			named[r.name] = true
		}
	}
	return named["token"] && named["bearer"] && b.o.connections[0] == 1
}
