package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"carillon/internal/web"
	"carillon/library"
	"carillon/library/feed"
)

const (
	// heartbeatWait is how often a quiet feed shows that it lives, below the
	// half minute after which proxies cut what is silent. It also moves the
	// client's position, so that one that filters can resume far ahead.
	heartbeatWait = 10 * time.Second
	// eventWriteWait bounds one write: a client that takes nothing for so long
	// is dropped. What it misses waits in the catalog, not in memory.
	eventWriteWait = 30 * time.Second
	// followersMax bounds the feeds of a node: each is a goroutine and a
	// connection that reads the catalog at every event.
	followersMax = 256
	// gatherWait is the least time between two looks for one client: every commit
	// wakes all of them, and a look costs some 50 µs. What comes after a pause
	// goes out at once.
	gatherWait = 25 * time.Millisecond
	// reconnectWait is what clients are told to wait before they come back.
	reconnectWait = time.Second
)

// eventLibrary is the part of the library that keeps the feed.
type eventLibrary interface {
	Events(ctx context.Context, q feed.Query, limit int) (feed.Page, error)
	EventsNow() feed.Position
	WatchEvents() (changed <-chan struct{}, cancel func())
}

// events is GET /v1/events: the change feed as server-sent events. The id of an
// event is its position, the same on every node, so that a client that lost
// one node goes on at another with Last-Event-ID.
func (s *Server) events(c echo.Context) error {
	q, follow, err := s.eventQuery(c.Request())
	if err != nil {
		return err
	}
	if s.followers.Add(1) > followersMax {
		s.followers.Add(-1)
		return fmt.Errorf("%d followers of events: %w", followersMax, library.ErrLimit)
	}
	defer s.followers.Add(-1)
	ctx := c.Request().Context()
	// The first page before the status goes out: a position that is not kept
	// is answered with 410, not with a broken stream.
	page, err := s.deps.Library.Events(ctx, q, 0)
	if err != nil {
		return err
	}
	h := c.Response().Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("Connection", "close")     // its write deadline is for nobody else
	h.Set("X-Accel-Buffering", "no") // nginx would keep events for kilobytes
	c.Response().WriteHeader(http.StatusOK)
	out := &eventWriter{w: c.Response(), control: http.NewResponseController(c.Response())}
	out.printf("retry: %d\n: position %s\n\n", reconnectWait.Milliseconds(), s.deps.Library.EventsNow())
	err = s.feed(ctx, out, q, page, follow)
	if err != nil {
		s.metrics.dropped.Inc()
		s.log.DebugContext(ctx, "follower of events dropped", "request_id", web.RequestID(c), "error", err)
	}
	return nil // the answer has begun: its last event says why it ends
}

// eventQuery reads what is wanted from the URL. A client that comes back says
// where it was in Last-Event-ID, which counts more than the URL it began with.
func (s *Server) eventQuery(r *http.Request) (q feed.Query, follow bool, err error) {
	v, err := newQuery(r, "after", "account", "kind", "follow")
	if err != nil {
		return q, false, err
	}
	switch v.get("follow") {
	case "", "true":
		follow = true
	case "false":
	default:
		return q, false, fmt.Errorf("follow is true or false: %w", library.ErrBadRequest)
	}
	q.Account = v.get("account")
	for _, kinds := range r.URL.Query()["kind"] {
		q.Kinds = append(q.Kinds, strings.Split(kinds, ",")...)
	}
	after := v.get("after")
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		after = last
	}
	switch {
	case after == "oldest", after == "" && !follow:
		q.Oldest = true
	case after == "" || after == "now":
		q.After = s.deps.Library.EventsNow()
	default:
		q.After, err = feed.ParsePosition(after)
	}
	return q, follow, err
}

// feed sends pages until the client or the node goes. An error is why the
// client was dropped.
func (s *Server) feed(
	ctx context.Context, out *eventWriter, q feed.Query, page feed.Page, follow bool,
) error {
	beat := time.NewTicker(heartbeatWait)
	defer beat.Stop()
	for {
		// The watch begins before the look that may find nothing.
		changed, cancel := s.deps.Library.WatchEvents()
		looked := time.Now()
		err := s.drain(ctx, out, &q, page)
		wake := false
		switch {
		case err != nil:
		case !follow:
			err = out.end("end", struct{}{})
		default:
			wake, err = s.awaitEvent(ctx, out, q, changed, beat.C)
		}
		cancel()
		if !wake || err != nil {
			return err
		}
		page = feed.Page{Next: q.After}
		gather(ctx, looked)
	}
}

// gather waits until the last look is gatherWait ago.
func gather(ctx context.Context, looked time.Time) {
	left := gatherWait - time.Since(looked)
	if left <= 0 {
		return
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// drain sends a page and all that follows it.
func (s *Server) drain(
	ctx context.Context, out *eventWriter, q *feed.Query, page feed.Page,
) (err error) {
	for {
		if err := out.page(page); err != nil {
			return err
		}
		q.After, q.Oldest = page.Next, false
		if page, err = s.deps.Library.Events(ctx, *q, 0); err != nil {
			return s.feedFailed(ctx, out, err)
		}
		if len(page.Events) == 0 && !page.More {
			q.After = page.Next
			return nil
		}
	}
}

// awaitEvent returns when there is something to read; false: the feed ends.
func (s *Server) awaitEvent(
	ctx context.Context, out *eventWriter, q feed.Query, changed <-chan struct{}, beat <-chan time.Time,
) (wake bool, err error) {
	select {
	case <-changed:
		return true, nil
	case <-beat:
		return true, out.beat(q.After, s.deps.Ready())
	case <-s.deps.Stopping:
		return false, out.end("bye", map[string]string{"reason": "the node stops; go on at any other"})
	case <-ctx.Done():
		return false, nil
	}
}

// feedFailed tells the client why the feed ends, as the last event.
func (s *Server) feedFailed(ctx context.Context, out *eventWriter, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the client has gone, which is no failure of the feed
	}
	fault := web.FaultOf(err)
	message := err.Error()
	if fault.Status >= http.StatusInternalServerError {
		message = strings.ToLower(http.StatusText(fault.Status))
	}
	return errors.Join(err, out.end("error", map[string]any{
		"error": map[string]string{"code": fault.Code, "message": message},
	}))
}

// eventWriter writes server-sent events; after an error it does nothing.
type eventWriter struct {
	w       io.Writer
	control *http.ResponseController
	err     error
}

func (o *eventWriter) printf(format string, args ...any) {
	if o.err == nil {
		o.err = o.control.SetWriteDeadline(time.Now().Add(eventWriteWait))
	}
	if o.err == nil {
		_, o.err = fmt.Fprintf(o.w, format, args...)
	}
}

func (o *eventWriter) flush() error {
	if o.err == nil {
		o.err = o.control.Flush()
	}
	return o.err
}

// page sends the events of a page.
func (o *eventWriter) page(p feed.Page) error {
	for i := range p.Events {
		data, err := json.Marshal(&p.Events[i])
		if err != nil {
			return fmt.Errorf("event %s: %w", p.Events[i].Position, err)
		}
		o.printf("id: %s\nevent: %s\ndata: %s\n\n", p.Events[i].Position, p.Events[i].Kind, data)
	}
	return o.flush()
}

// beat shows that the feed lives. An id without data moves a client's position
// and is no event.
func (o *eventWriter) beat(at feed.Position, ready error) error {
	o.printf(": %s\nid: %s\n\n", state(ready), at)
	return o.flush()
}

func state(ready error) string {
	if ready == nil {
		return "alive"
	}
	return "alive, but this node may be behind: " + strings.ReplaceAll(ready.Error(), "\n", " ")
}

// end sends the last event.
func (o *eventWriter) end(kind string, data any) error {
	b, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("last event: %w", err)
	}
	o.printf("event: %s\ndata: %s\n\n", kind, b)
	return o.flush()
}
