package audittrail

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"time"

	"github.com/cargokey/authz/authz"
)

// digester makes the digest of one seal, of events that come one by one.
type digester struct {
	hash   hash.Hash
	buffer []byte // of the event at hand
}

func newDigester() *digester { return &digester{hash: sha256.New()} }

// begin takes what a seal says of its events, which come next.
func (d *digester) begin(s authz.TrailSeal) {
	d.hash.Reset()
	d.buffer = heading(d.buffer[:0], &s)
	d.hash.Write(d.buffer)
}

// heading appends what a seal says of its events, the same for its digest and its MAC.
func heading(b []byte, s *authz.TrailSeal) []byte {
	b = append(b, format...)
	b = append(b, s.Previous[:]...)
	b = number(b, s.Number)
	b = append(b, s.Day...)
	b = position(b, s.From)
	b = position(b, s.Upto)
	return number(b, int64(s.Events))
}

func (d *digester) event(e authz.TrailEvent) {
	b := number(d.buffer[:0], e.Position.RecordedIn)
	b = append(b, e.ID[:]...)
	b = number(b, e.At.UnixMicro())
	b = append(b, e.JTI[:]...)
	for _, s := range [...]string{string(e.Kind), e.Actor, e.ClientID, e.Resource, e.JKT, e.RequestID, e.RemoteAddr, e.RecordedBy} {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(e.RawDetail))), e.RawDetail...)
	d.hash.Write(b)
	d.buffer = b
}

func (d *digester) sum() (sum authz.Digest) {
	d.hash.Sum(sum[:0])
	return sum
}

func number(b []byte, n int64) []byte { return binary.BigEndian.AppendUint64(b, uint64(n)) }

func position(b []byte, p authz.TrailPosition) []byte {
	return append(number(b, p.RecordedIn), p.ID[:]...)
}

// dayOf is the day of an event, by which the trail is partitioned.
func dayOf(at time.Time) string { return at.UTC().Format(time.DateOnly) }
