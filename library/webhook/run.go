package webhook

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"carillon/blobstore"
	"carillon/library/rows"
)

const (
	// lookEvery is the time between two looks at the webhooks: that late one
	// begins that was made on another node.
	lookEvery = 2 * time.Second
	// renewEvery is how often the node that delivers says that it does, and
	// leaseFor how long it may be silent before another takes over, by the
	// other's own clock: clocks of two nodes are never compared. A node that
	// gossip calls gone is followed at once.
	renewEvery = 10 * time.Second
	leaseFor   = 35 * time.Second
)

// runner is what a node does for webhooks.
type runner struct {
	poke chan struct{} // of one: look now

	// The rest belongs to the goroutine of Run.
	lease     uint64    // revision of the lease as last seen
	seen      time.Time // when that was first seen
	renewed   time.Time // when this node last wrote it
	delivered map[string]running
}

// running is one webhook that this node delivers.
type running struct {
	revision uint64 // of the webhook's row: another one means that it was changed
	stop     context.CancelFunc
	done     chan struct{}
}

// leaseRow says which node delivers the webhooks.
type leaseRow struct {
	Node string `json:"nd"`
	MS   int64  `json:"t"` // makes each renewal another value; for people
}

func newRunner() *runner {
	return &runner{poke: make(chan struct{}, 1), delivered: make(map[string]running)}
}

// poke lets this node look at the webhooks at once.
func (s *Set) poke() {
	select {
	case s.runner.poke <- struct{}{}:
	default:
	}
}

// Run delivers the webhooks while this node holds the lease.
func (s *Set) Run(ctx context.Context) {
	w := s.runner
	defer w.stopAll()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := s.look(ctx); err != nil && ctx.Err() == nil {
			s.deps.Log.WarnContext(ctx, "webhooks could not be looked at", "error", err)
		}
		select {
		case <-tick.C:
		case <-w.poke:
		case <-ctx.Done():
			return
		}
	}
}

// look starts and stops what has changed.
func (s *Set) look(ctx context.Context) error {
	w := s.runner
	hooks, err := s.hooks(ctx)
	if err != nil {
		return err
	}
	wanted := make(map[string]*hook, len(hooks))
	for i := range hooks {
		if h := &hooks[i]; !h.row.Disabled && !h.state.Off {
			wanted[h.id] = h
		}
	}
	s.deps.Meter.States(count(hooks))
	if len(wanted) == 0 {
		w.stopAll() // and let the lease run out: nobody needs it
		return nil
	}
	mine, err := s.mine(ctx)
	if err != nil || !mine {
		w.stopAll()
		return err
	}
	for id, r := range w.delivered {
		if h := wanted[id]; h == nil || h.revision != r.revision || r.ended() {
			w.stop(id)
		}
	}
	for id, h := range wanted {
		if _, ok := w.delivered[id]; !ok {
			w.start(ctx, s, h)
		}
	}
	return nil
}

// mine says whether this node may deliver, and renews or takes the
// lease if it is time.
func (s *Set) mine(ctx context.Context) (mine bool, err error) {
	w := s.runner
	lease, row, err := s.leaseRow(ctx)
	if err != nil {
		return false, err
	}
	now := time.Now()
	if row.Revision != w.lease || w.seen.IsZero() {
		w.lease, w.seen = row.Revision, now
	}
	held := lease.Node == s.deps.NodeID && !w.renewed.IsZero() // not by a former life of this node
	switch {
	case held && now.Sub(w.renewed) < renewEvery:
		return true, nil
	case held, lease.Node == "", lease.Node == s.deps.NodeID, now.Sub(w.seen) > leaseFor,
		s.deps.Gone != nil && s.deps.Gone(lease.Node):
	default:
		return false, nil
	}
	revision, err := s.takeLease(ctx, row.Revision, now)
	switch {
	case errors.Is(err, blobstore.ErrConflict):
		return false, nil // another was faster
	case err != nil:
		// Nobody can take the lease without a majority either; while ours may
		// still be believed, what runs goes on.
		return held && now.Sub(w.renewed) < leaseFor, fmt.Errorf("lease of the webhooks: %w", err)
	}
	w.lease, w.seen, w.renewed = revision, now, now
	return true, nil
}

// leaseRow is who has the lease; the row's revision is 0 if nobody ever had.
func (s *Set) leaseRow(ctx context.Context) (lease leaseRow, row blobstore.Row, err error) {
	row, err = s.deps.Rows.Get(ctx, leaseKey)
	if errors.Is(err, blobstore.ErrNotFound) {
		return lease, blobstore.Row{}, nil
	}
	if err == nil {
		err = rows.Decode(row.Value, &lease)
	}
	if err != nil {
		return lease, row, fmt.Errorf("lease of the webhooks: %w", err)
	}
	return lease, row, nil
}

// takeLease writes this node's name over a lease of that revision.
func (s *Set) takeLease(ctx context.Context, over uint64, now time.Time) (uint64, error) {
	value, err := rows.Encode(leaseRow{Node: s.deps.NodeID, MS: now.UnixMilli()})
	if err != nil {
		return 0, err
	}
	c := &rows.Change{}
	c.Expect(leaseKey, over)
	c.Put(leaseKey, value)
	return s.deps.Rows.Commit(ctx, c.Txn)
}

func (r running) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

func (w *runner) start(ctx context.Context, set *Set, h *hook) {
	ctx, stop := context.WithCancel(ctx)
	r := running{revision: h.revision, stop: stop, done: make(chan struct{})}
	w.delivered[h.id] = r
	d := &deliverer{set: set, h: *h}
	go func() { // stop waits for it
		defer close(r.done)
		defer stop()
		if err := d.run(ctx); err != nil && ctx.Err() == nil {
			set.deps.Log.WarnContext(ctx, "webhook is not delivered for now", "webhook", h.id, "error", err)
		}
	}()
}

func (w *runner) stop(id string) {
	r := w.delivered[id]
	r.stop()
	<-r.done
	delete(w.delivered, id)
}

func (w *runner) stopAll() {
	var all sync.WaitGroup
	for id, r := range w.delivered {
		all.Go(func() {
			r.stop()
			<-r.done
		})
		delete(w.delivered, id)
	}
	all.Wait()
}
