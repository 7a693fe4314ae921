package postgres

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// roomAge is how long a database that had no room for what was to be written is
// taken to have none. Whoever finds an instance not ready may send it nothing, and
// then it would never learn that there is room again.
const roomAge = 10 * time.Second

// room knows whether the disk of the database was full. Nothing that can be read
// tells, so it goes by what became of the last write.
type room struct{ lackedAt atomic.Int64 } // in microseconds since 1970; 0: there was room

// note is for each write that a request is for, and says what became of it.
func (r *room) note(err error, written bool, now time.Time) {
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused) && refused.Code == "53100": // disk_full
		r.lackedAt.Store(now.UnixMicro())
	case err == nil && written && r.lackedAt.Load() != 0:
		r.lackedAt.Store(0)
	}
}

func (r *room) lacks(now time.Time) bool {
	at := r.lackedAt.Load()
	return at != 0 && now.Sub(time.UnixMicro(at)).Abs() < roomAge
}
