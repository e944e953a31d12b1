package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"carillon/blobstore"
	"carillon/library/delivery"
	"carillon/library/fault"
	"carillon/library/feed"
	"carillon/library/rows"
)

// Keys of the catalog. A backup takes the webhooks, not how far they are: that
// is a position in another log.
const (
	Prefix      = "w1/"  // w1/{webhook id}: a webhook
	StatePrefix = "ws1/" // ws1/{webhook id}: how far it is
	leaseKey    = "z1/webhooks"
)

// lagMax bounds how many waiting events are counted for a listing.
const lagMax = feed.PageMax

// Deps are the parts that webhooks stand on.
type Deps struct {
	NodeID string
	Rows   rows.Store
	Feed   *feed.Feed
	Sender delivery.Sender // nil: nothing is sent, and asking for it is fault.ErrTarget
	// Gone says whether a node has been away for long: it is followed at once.
	// nil: never.
	Gone  func(nodeID string) bool
	Meter Meter
	Log   *slog.Logger
}

// Meter counts what becomes of webhooks.
type Meter interface {
	// Delivered counts a try of this node; lag is the age of its oldest event.
	Delivered(webhookID string, ok bool, lag time.Duration)
	// States says how many webhooks of the cluster do how.
	States(counts map[State]int)
}

// Set is all webhooks of the cluster. Its methods may be called concurrently.
type Set struct {
	deps   Deps
	runner *runner
}

// New makes the Set of what is in the catalog. Nothing is delivered before Run.
func New(deps Deps) *Set { return &Set{deps, newRunner()} }

// Put makes a webhook or changes it, and says whether it is new. Its
// position stays unless r.After says otherwise; one that was disabled because
// it failed is tried again.
func (s *Set) Put(ctx context.Context, id string, r Request) (Status, bool, error) {
	if err := s.check(id, &r); err != nil {
		return Status{}, false, err
	}
	var h hook
	created, made := false, ""
	revision, err := s.deps.Rows.Write(ctx, func() (blobstore.Txn, error) {
		before, err := s.hook(ctx, id)
		if err != nil && !errors.Is(err, fault.ErrNotFound) {
			return blobstore.Txn{}, err
		}
		if created = err != nil; created {
			if err := s.room(ctx); err != nil {
				return blobstore.Txn{}, err
			}
		}
		h, made = before, ""
		if h.row.Secret = orSecret(r.Secret, before.row.Secret); h.row.Secret == "" {
			made = newSecret()
			h.row.Secret = made
		}
		h.id, h.row.URL, h.row.Kinds, h.row.Account, h.row.Disabled = id, r.URL, r.Kinds, r.Account, r.Disabled
		was := &before.state
		if created {
			h.row.CreatedMS, was = time.Now().UnixMilli(), nil
		}
		p, err := s.startOf(r.After, was)
		if err != nil {
			return blobstore.Txn{}, err
		}
		h.state.moveTo(p)
		h.state.Off, h.state.FailingMS, h.state.Attempts, h.state.Error = false, 0, 0, ""
		h.state.Node = "" // whoever delivers it claims it anew, and so sees the change
		c := &rows.Change{}
		h.put(c)
		return c.Done()
	})
	if err != nil {
		return Status{}, false, fmt.Errorf("put webhook %s: %w", id, err)
	}
	h.revision = revision
	v := h.view()
	v.NewSecret = made
	s.poke()
	return v, created, nil
}

func (s *Set) room(ctx context.Context) error {
	n, err := s.deps.Rows.Tally(ctx, Prefix)
	if err != nil {
		return fmt.Errorf("webhooks: %w", err)
	}
	if n.Rows >= Max {
		return fmt.Errorf("%d webhooks: %w", Max, fault.ErrLimit)
	}
	return nil
}

// put writes both rows.
func (h *hook) put(c *rows.Change) {
	value, err := rows.Encode(h.row)
	c.Fail(err)
	c.Expect(Prefix+h.id, h.revision)
	c.Put(Prefix+h.id, value)
	h.putState(c)
}

func (h *hook) putState(c *rows.Change) {
	value, err := rows.Encode(h.state)
	c.Fail(err)
	c.Expect(StatePrefix+h.id, h.stateRevision)
	c.Put(StatePrefix+h.id, value)
}

// hook reads a webhook, fault.ErrNotFound if there is none.
func (s *Set) hook(ctx context.Context, id string) (hook, error) {
	row, err := s.deps.Rows.Get(ctx, Prefix+id)
	if err != nil {
		return hook{}, rows.NotFound(err, "webhook", id)
	}
	h, err := decode(id, row)
	if err != nil {
		return hook{}, err
	}
	row, err = s.deps.Rows.Get(ctx, StatePrefix+id)
	if errors.Is(err, blobstore.ErrNotFound) {
		return h, nil // restored from a backup: it begins with what is kept
	}
	if err != nil {
		return hook{}, fmt.Errorf("webhook %s: %w", id, err)
	}
	err = h.decodeState(row)
	return h, err
}

// hooks reads all webhooks, in the order of their ids.
func (s *Set) hooks(ctx context.Context) ([]hook, error) {
	var all []hook
	for row, err := range s.deps.Rows.Scan(ctx, Prefix, "") {
		if err != nil {
			return nil, fmt.Errorf("webhooks: %w", err)
		}
		h, err := s.hook(ctx, row.Key[len(Prefix):])
		if errors.Is(err, fault.ErrNotFound) {
			continue // went between the two reads
		}
		if err != nil {
			return nil, err
		}
		all = append(all, h)
	}
	return all, nil
}

// find reads a webhook that somebody asks for by its id.
func (s *Set) find(ctx context.Context, id string) (hook, error) {
	if err := checkID(id); err != nil {
		return hook{}, err
	}
	var h hook
	err := s.deps.Rows.Find(ctx, func() (err error) {
		h, err = s.hook(ctx, id)
		return err
	})
	return h, err
}

// Get returns a webhook and how it does.
func (s *Set) Get(ctx context.Context, id string) (Status, error) {
	h, err := s.find(ctx, id)
	if err != nil {
		return Status{}, err
	}
	return s.shown(ctx, &h)
}

// List lists all, in the order of their ids.
func (s *Set) List(ctx context.Context) ([]Status, error) {
	hooks, err := s.hooks(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]Status, 0, len(hooks))
	for i := range hooks {
		v, err := s.shown(ctx, &hooks[i])
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

// Counts says how many webhooks do how.
func (s *Set) Counts(ctx context.Context) (map[State]int, error) {
	hooks, err := s.hooks(ctx)
	return count(hooks), err
}

func count(hooks []hook) map[State]int {
	counts := map[State]int{}
	for i := range hooks {
		counts[hooks[i].state.state(hooks[i].row.Disabled)]++
	}
	return counts
}

// shown adds how far a webhook is behind.
func (s *Set) shown(ctx context.Context, h *hook) (Status, error) {
	v := h.view()
	q := h.query()
	page, err := s.deps.Feed.Read(ctx, q, lagMax)
	if errors.Is(err, fault.ErrTrimmed) { // it will find that out itself
		q.Oldest = true
		page, err = s.deps.Feed.Read(ctx, q, lagMax)
	}
	if err != nil {
		return Status{}, err
	}
	if v.Lag = len(page.Events); v.Lag > 0 {
		v.LagSeconds = max(time.Since(page.Events[0].Time).Seconds(), 0)
	}
	return v, nil
}

// Delete removes a webhook; fault.ErrNotFound when there is none.
func (s *Set) Delete(ctx context.Context, id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	_, err := s.deps.Rows.Write(ctx, func() (blobstore.Txn, error) {
		var h hook
		err := s.deps.Rows.Find(ctx, func() (err error) {
			h, err = s.hook(ctx, id)
			return err
		})
		if err != nil {
			return blobstore.Txn{}, err
		}
		c := &rows.Change{}
		c.Expect(Prefix+id, h.revision)
		c.Remove(Prefix + id)
		c.Remove(StatePrefix + id)
		return c.Done()
	})
	if err != nil {
		return fmt.Errorf("delete webhook %s: %w", id, err)
	}
	s.poke()
	return nil
}
