package web

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

type readStallKey struct{}

// withReadStall lets [NewBody] know the configured time without a second
// configuration in each door. Requests without a body pay nothing.
func withReadStall(next http.Handler, stall time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil && r.Body != http.NoBody {
			r = r.WithContext(context.WithValue(r.Context(), readStallKey{}, stall))
		}
		next.ServeHTTP(w, r)
	})
}

// Body reads a request's body and gives up on a client that sends nothing for
// the configured time.
type Body struct {
	body    io.Reader
	control *http.ResponseController
	stall   time.Duration
	rearm   time.Time
	size    atomic.Int64
	stalled atomic.Bool
}

// NewBody reads the body of r. The first Read answers an `Expect:
// 100-continue`, so everything that can be refused must be refused before.
func NewBody(w http.ResponseWriter, r *http.Request) *Body {
	stall, ok := r.Context().Value(readStallKey{}).(time.Duration)
	if !ok {
		stall = ReadStallDefault
	}
	return &Body{body: r.Body, control: http.NewResponseController(w), stall: stall}
}

// Read returns the next bytes, or ErrBodyStalled.
func (b *Body) Read(p []byte) (int, error) {
	if now := time.Now(); !now.Before(b.rearm) {
		// A connection that takes no deadline (in a unit test) is not watched.
		if err := b.control.SetReadDeadline(now.Add(b.stall)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return 0, err
		}
		b.rearm = now.Add(b.stall / rearmParts)
	}
	n, err := b.body.Read(p)
	b.size.Add(int64(n))
	switch {
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.stalled.Store(true)
		return n, ErrBodyStalled
	default:
		// From here on net/http reads in the background to notice a client that
		// leaves; our deadline would look like that and cancel the request.
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// Stalled says whether a Read gave up, for callers whose reader wraps errors
// of its own around ours.
func (b *Body) Stalled() bool { return b.stalled.Load() }

// Size is how many bytes were read so far.
func (b *Body) Size() int64 { return b.size.Load() }
