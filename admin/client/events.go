package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"carillon/library"
	"carillon/library/feed"
)

// feedSilenceMax is how long a feed may say nothing: three heartbeats. Then
// the connection is dead, whatever the kernel thinks.
const feedSilenceMax = 30 * time.Second

// EventOptions select what is read of the change feed.
type EventOptions struct {
	// After is a position, "oldest" or "now"; "": now if Follow, else oldest.
	After   string
	Account string
	Kinds   []string // "media", "media.deleted"; none: all
	// Follow waits for events that come. Without it Events returns when all
	// that are there were read.
	Follow bool
}

// Events calls fn for each event in order, until fn fails, ctx ends, or the
// feed does. Next is the position to go on at, on this node or any other,
// which is beyond the last event if later ones were not wanted. It returns nil
// at the end of a feed that is not followed, library.ErrUnavailable when the
// node went away or stops, and library.ErrTrimmed when the position is not kept.
func (c *Client) Events(
	ctx context.Context, o EventOptions, fn func(feed.Event) error,
) (next string, err error) {
	next = o.After
	v := url.Values{}
	for name, value := range map[string]string{
		"after": o.After, "account": o.Account, "kind": strings.Join(o.Kinds, ","),
	} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if !o.Follow {
		v.Set("follow", "false")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(feedSilenceMax, func() {
		cancel(fmt.Errorf("nothing came for %s: %w", feedSilenceMax, library.ErrUnavailable))
	})
	defer silence.Stop()
	req, err := c.request(ctx, http.MethodGet, "/v1/events", v, nil)
	if err != nil {
		return next, err
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := c.do(req)
	if err != nil {
		return next, err
	}
	defer func() { _ = resp.Body.Close() }()
	in := newSSEReader(resp.Body, func() { silence.Reset(feedSilenceMax) })
	for {
		e, err := in.next()
		if cause := context.Cause(ctx); err != nil && cause != nil {
			return next, cause
		}
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("event stream ended: %w", library.ErrUnavailable)
		}
		if err != nil {
			return next, err
		}
		done, err := c.event(e, fn)
		if err != nil || done {
			return next, err
		}
		if e.id != "" {
			next = e.id
		}
	}
}

// event hands an event on, or says that it was the last.
func (c *Client) event(e sseEvent, fn func(feed.Event) error) (done bool, err error) {
	switch e.kind {
	case "":
		return false, nil
	case "end":
		return true, nil
	case "bye":
		return true, fmt.Errorf("the node stops: %w", library.ErrUnavailable)
	case "error":
		var body struct {
			Error struct{ Code, Message string } `json:"error"`
		}
		if err := json.Unmarshal([]byte(e.data), &body); err != nil {
			return true, fmt.Errorf("last event: %w", err)
		}
		return true, &Error{Code: body.Error.Code, Message: body.Error.Message, kind: c.codes[body.Error.Code]}
	}
	var event feed.Event
	if err := json.Unmarshal([]byte(e.data), &event); err != nil {
		return true, fmt.Errorf("event %s: %w", e.id, err)
	}
	return false, fn(event)
}
