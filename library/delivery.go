package library

import (
	"context"
	"io"
	"time"
)

// Delivery is a request to a place that a user of the API named: a webhook, or
// where a recording is exported to.
type Delivery struct {
	Method string // POST, PUT
	URL    string
	Header map[string]string
	Body   io.Reader
	Size   int64 // of Body; -1: unknown
}

// Receipt is what that place answered.
type Receipt struct {
	Status int
	// Text is the beginning of the answer's body, printable characters only.
	Text string
	// RetryAfter is how long it asked us to wait; 0: it did not.
	RetryAfter time.Duration
}

// Sender sends deliveries. Package internal/outbound implements it.
type Sender interface {
	// CheckTarget says whether deliveries may go to this URL, as far as can be
	// told without resolving names: ErrTarget and the reason if not.
	CheckTarget(url string) error
	// CheckHeader refuses names and values that are not well formed, or that
	// are not the caller's to set: ErrBadRequest.
	CheckHeader(header map[string]string) error
	// Send sends one request and reads the answer. Every answer is a receipt
	// and no error, whatever its status; redirects are not followed. ErrTarget:
	// the name led to an address that is not allowed; trying again changes
	// nothing. Any other error: nobody knows whether it arrived. A body that
	// moves is given any time, one that stalls is not.
	Send(ctx context.Context, d Delivery) (Receipt, error)
}
