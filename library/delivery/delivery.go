package delivery

import (
	"context"
	"io"
	"net/url"
	"time"
)

// Request is a request to a place that a user of the API named: a webhook, or
// where a recording is exported to.
type Request struct {
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
	// told without resolving names: [fault.ErrTarget] and the reason if not.
	CheckTarget(url string) error
	// CheckHeader refuses names and values that are not well formed, or that
	// are not the caller's to set: [fault.ErrBadRequest].
	CheckHeader(header map[string]string) error
	// Send sends one request and reads the answer. Every answer is a receipt
	// and no error, whatever its status; redirects are not followed. [fault.ErrTarget]:
	// the name led to an address that is not allowed; trying again changes
	// nothing. Any other error: nobody knows whether it arrived. A body that
	// moves is given any time, one that stalls is not.
	Send(ctx context.Context, r Request) (Receipt, error)
}

// ShownURL is a URL without what may be secret in it: user, password, query.
// What cannot be read as a URL is not shown at all.
func ShownURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}
