package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"carillon/blobstore"
	"carillon/library/delivery"
	"carillon/library/fault"
	"carillon/library/feed"
	"carillon/library/rows"
)

const (
	// batchMax is how many events one delivery carries: those that came
	// while the last was on its way.
	batchMax = 50
	// wait bounds one delivery.
	wait = 30 * time.Second
	// pauseMin and pauseMax are the first and the longest pause
	// after failures.
	pauseMin = time.Second
	pauseMax = 5 * time.Minute
	// giveUp is how long a webhook may fail before it is disabled: a long
	// weekend.
	giveUp = 72 * time.Hour
	// keep is how long a position may be newer than what is written
	// down: that much may be delivered again by another node.
	keep = time.Second
	// idleWait is how often a position is written down that moved only
	// because nothing was wanted, so that it is not trimmed behind it.
	idleWait = 10 * time.Minute
	// noteWait is how often a failing webhook's state is written down.
	noteWait = 30 * time.Second
	// stateWait bounds the last commit of a deliverer that is stopped.
	stateWait = 2 * time.Second
)

// errNotClaimed ends a deliverer whose webhook is another node's.
var errNotClaimed = errors.New("the webhook was changed, or is delivered by another node")

// deliverer delivers one webhook. It belongs to one goroutine.
type deliverer struct {
	set   *Set
	h     hook
	saved time.Time // when the state was last written
	dirty bool      // it is newer than what was written
}

// run delivers until ctx ends or the webhook is taken away.
func (d *deliverer) run(ctx context.Context) error {
	d.h.state.Node = d.set.deps.NodeID
	if err := d.save(ctx); err != nil {
		return err
	}
	defer d.saveLast(ctx)
	for ctx.Err() == nil && !d.h.state.Off {
		changed, cancel := d.set.deps.Feed.Watch() // before the look
		more, err := d.step(ctx)
		if err == nil && !more {
			err = d.await(ctx, changed)
		}
		cancel()
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// step delivers the next events, if there are any.
func (d *deliverer) step(ctx context.Context) (more bool, err error) {
	page, err := d.set.deps.Feed.Read(ctx, d.h.query(), batchMax)
	if errors.Is(err, fault.ErrTrimmed) {
		return true, d.miss(ctx, err)
	}
	if err != nil {
		return false, err
	}
	if len(page.Events) > 0 {
		if err := d.deliver(ctx, page.Events); err != nil || d.h.state.Off {
			return false, err
		}
	}
	if page.Next != d.h.state.position() {
		d.h.state.moveTo(page.Next)
		d.dirty = d.dirty || len(page.Events) > 0 || time.Since(d.saved) >= idleWait
	}
	if d.dirty && time.Since(d.saved) >= keep {
		return page.More, d.save(ctx)
	}
	return page.More, nil
}

// await returns when there may be something to do.
func (d *deliverer) await(ctx context.Context, changed <-chan struct{}) error {
	if !d.dirty {
		select {
		case <-changed:
		case <-ctx.Done():
		}
		return nil
	}
	timer := time.NewTimer(keep)
	defer timer.Stop()
	select {
	case <-changed:
	case <-ctx.Done():
	case <-timer.C:
		return d.save(ctx)
	}
	return nil
}

// miss goes on where the feed begins, and says so.
func (d *deliverer) miss(ctx context.Context, cause error) error {
	trimmed, err := d.set.deps.Feed.Trimmed(ctx)
	if err != nil {
		return err
	}
	if at := d.h.state.position(); !trimmed.After(at) { // it was beyond the log
		trimmed = d.set.deps.Feed.Now()
	}
	d.set.deps.Log.ErrorContext(ctx, "webhook has missed events", "webhook", d.h.id, "error", cause)
	d.h.state.moveTo(trimmed)
	d.h.state.Missed++
	return d.save(ctx)
}

// deliver sends the events until they have arrived, or the webhook is disabled.
func (d *deliverer) deliver(ctx context.Context, events []feed.Event) error {
	for {
		receipt, err := d.send(ctx, events)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		now := time.Now()
		ok := err == nil && receipt.Status/100 == 2
		d.set.deps.Meter.Delivered(d.h.id, ok, now.Sub(events[0].Time))
		s := &d.h.state
		if ok {
			recovered := s.FailingMS != 0
			s.LastOKMS, s.FailingMS, s.Attempts, s.Error = now.UnixMilli(), 0, 0, ""
			d.dirty = true
			if recovered {
				s.moveTo(events[len(events)-1].Position)
				return d.save(ctx)
			}
			return nil
		}
		pause, err := d.failed(ctx, now, receipt, err)
		if err != nil || s.Off {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// failed notes a delivery that did not arrive, and says how long to wait.
func (d *deliverer) failed(
	ctx context.Context, now time.Time, r delivery.Receipt, cause error,
) (time.Duration, error) {
	s := &d.h.state
	first := s.FailingMS == 0
	if first {
		s.FailingMS = now.UnixMilli()
	}
	s.Attempts++
	if s.Error = fmt.Sprintf("status %d %s", r.Status, r.Text); cause != nil {
		s.Error = cause.Error()
	}
	s.Error = s.Error[:min(len(s.Error), feed.DetailBytesMax)]
	if now.Sub(rows.FromMS(s.FailingMS)) > giveUp {
		s.Off = true
		d.set.deps.Log.ErrorContext(ctx, "webhook is disabled, it failed for too long", "webhook", d.h.id,
			"position", s.position(), "error", s.Error)
		return 0, d.save(ctx)
	}
	pause := min(pauseMin<<min(s.Attempts-1, 10), pauseMax)
	pause = pause*3/4 + rand.N(pause/2) //nolint:gosec // spreads load, keeps no secret
	d.dirty = true
	if first || now.Sub(d.saved) >= noteWait {
		return max(pause, r.RetryAfter), d.save(ctx)
	}
	return max(pause, r.RetryAfter), nil
}

// Body is what is posted.
type Body struct {
	Webhook string       `json:"webhook"`
	Events  []feed.Event `json:"events"`
}

// send posts events once.
func (d *deliverer) send(ctx context.Context, events []feed.Event) (delivery.Receipt, error) {
	return d.set.post(ctx, &d.h, events, "Carillon-Event-Id", events[0].Position.String())
}

// post sends one signed delivery with a header of its own.
func (s *Set) post(ctx context.Context, h *hook, events []feed.Event, name, value string) (delivery.Receipt,
	error,
) {
	body, err := json.Marshal(Body{h.id, events})
	if err != nil {
		return delivery.Receipt{}, fmt.Errorf("webhook %s: %w", h.id, err)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	now := time.Now().Unix()
	return s.deps.Sender.Send(ctx, delivery.Request{
		Method: "POST", URL: h.row.URL, Body: bytes.NewReader(body), Size: int64(len(body)),
		Header: map[string]string{
			"Content-Type":       "application/json",
			"Carillon-Status":    h.id,
			name:                 value,
			"Carillon-Timestamp": strconv.FormatInt(now, 10),
			"Carillon-Signature": "v1=" + Sign(h.row.Secret, now, body),
		},
	})
}

// Trial is what a receiver made of a delivery that was tried by hand.
type Trial struct {
	OK     bool   `json:"ok"`
	Status int    `json:"status,omitempty"`
	Text   string `json:"text,omitempty"`  // the beginning of its answer
	Error  string `json:"error,omitempty"` // why there is no answer
	TookMS int64  `json:"took_ms"`
}

// Try posts a delivery without events, with the header Carillon-Test,
// and tells what came of it. It changes nothing, and a disabled webhook can be
// tried as well.
func (s *Set) Try(ctx context.Context, id string) (Trial, error) {
	h, err := s.find(ctx, id)
	if err != nil {
		return Trial{}, err
	}
	if s.deps.Sender == nil {
		return Trial{}, fmt.Errorf("this node sends nothing: %w", fault.ErrTarget)
	}
	begun := time.Now()
	receipt, err := s.post(ctx, &h, []feed.Event{}, "Carillon-Test", "true")
	t := Trial{
		OK: err == nil && receipt.Status/100 == 2, Status: receipt.Status, Text: receipt.Text,
		TookMS: time.Since(begun).Milliseconds(),
	}
	if err != nil {
		t.Error = err.Error()
	}
	return t, nil
}

// save writes the state; errNotClaimed if it is not ours to write.
func (d *deliverer) save(ctx context.Context) error {
	c := &rows.Change{}
	c.Expect(Prefix+d.h.id, d.h.revision)
	d.h.putState(c)
	txn, err := c.Done()
	if err != nil {
		return err
	}
	revision, err := d.set.deps.Rows.Commit(ctx, txn)
	if errors.Is(err, blobstore.ErrConflict) {
		return errNotClaimed
	}
	if err != nil {
		return err
	}
	d.h.stateRevision, d.saved, d.dirty = revision, time.Now(), false
	return nil
}

// saveLast writes what is not written yet, so that who goes on repeats nothing.
func (d *deliverer) saveLast(ctx context.Context) {
	if !d.dirty {
		return
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), stateWait)
	defer cancel()
	if err := d.save(bounded); err != nil {
		d.set.deps.Log.InfoContext(bounded, "some events may be delivered again", "webhook", d.h.id, "error", err)
	}
}
