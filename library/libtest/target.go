package libtest

import (
	"context"
	"io"
	"strings"
	"sync"

	"carillon/library/delivery"
	"carillon/library/fault"
)

// Target is a delivery.Sender that keeps what it is to send, and answers as
// told. URLs with "forbidden" in them it refuses, and the header Host.
type Target struct {
	// Answer is what the nth delivery is answered, from 1; nil: 201. It is set
	// before the first.
	Answer func(ctx context.Context, n int, r delivery.Request) (delivery.Receipt, error)

	mu   sync.Mutex
	sent []Sent // guarded by mu
}

// Sent is one delivery.
type Sent struct {
	Request delivery.Request
	Body    []byte
	Err     error // of reading the body
}

// CheckTarget implements delivery.Sender.
func (t *Target) CheckTarget(url string) error {
	if strings.Contains(url, "forbidden") {
		return fault.ErrTarget
	}
	return nil
}

// CheckHeader implements delivery.Sender.
func (t *Target) CheckHeader(header map[string]string) error {
	if _, bad := header["Host"]; bad {
		return fault.ErrBadRequest
	}
	return nil
}

// Send implements delivery.Sender.
func (t *Target) Send(ctx context.Context, r delivery.Request) (delivery.Receipt, error) {
	body, err := io.ReadAll(r.Body)
	t.mu.Lock()
	t.sent = append(t.sent, Sent{r, body, err})
	n := len(t.sent)
	t.mu.Unlock()
	if err != nil || t.Answer == nil {
		return delivery.Receipt{Status: 201}, err
	}
	return t.Answer(ctx, n, r)
}

// Sent are the deliveries so far, in order.
func (t *Target) Sent() []Sent {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Sent(nil), t.sent...)
}
