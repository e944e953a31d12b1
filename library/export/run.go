package export

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"time"

	"carillon/blobstore"
	"carillon/library/delivery"
	"carillon/library/fault"
	"carillon/library/feed"
	"carillon/library/rows"
)

const (
	// lookEvery is the time between two looks at the open exports, give or
	// take a quarter: that late one begins which another node has queued.
	lookEvery = 5 * time.Second
	// atOnce bounds what one node sends at a time, and perHost
	// what of it goes to one host, so that a target that hangs stops no other.
	atOnce  = 8
	perHost = 3
	// dueMax bounds what one look finds due. Those that wait, or were given up,
	// are passed by: however many there are, they keep nothing behind them from
	// being sent.
	dueMax = 1000
	// commitWait bounds the commit of a result. When it fails the lease
	// runs out and the export is sent again.
	commitWait = 5 * time.Second
)

// errLeaseLost ends a send whose export is another's now, or nobody's.
var errLeaseLost = errors.New("the export was removed or is sent by another node")

// exporter carries out exports: of all nodes the one that commits its lease
// first.
type exporter struct {
	poke chan struct{} // of one: look now

	leases map[string]observed // of exports that others send; only looks use it

	mu    sync.Mutex        // guards both
	mine  map[string]string // export id → host, of what is being sent here
	hosts map[string]int
}

func newExporter() *exporter {
	return &exporter{
		poke: make(chan struct{}, 1), leases: make(map[string]observed),
		mine: make(map[string]string), hosts: make(map[string]int),
	}
}

// observed is a lease of another node: it has run out when it has not been
// renewed for leaseFor of this node's own clock. The clocks of two nodes are
// never compared.
type observed struct {
	value string
	since time.Time
}

// stale notes the index row of an export that is being sent, and says whether
// it has been so for too long.
func (x *exporter) stale(id, value string, now time.Time) bool {
	seen, known := x.leases[id]
	if !known || seen.value != value {
		x.leases[id] = observed{value, now}
		return false
	}
	return now.Sub(seen.since) > leaseFor
}

// Poke lets this node look at the exports at once.
func (q *Queue) Poke() {
	select {
	case q.exporter.poke <- struct{}{}:
	default:
	}
}

// Run looks for exports that are due, again and again, and returns when
// what it started has ended.
func (q *Queue) Run(ctx context.Context) {
	var sending sync.WaitGroup
	defer sending.Wait()
	for {
		if err := q.look(ctx, &sending); err != nil && ctx.Err() == nil {
			q.deps.Log.WarnContext(ctx, "exports could not be looked at", "error", err)
		}
		timer := time.NewTimer(lookEvery*3/4 + rand.N(lookEvery/2)) //nolint:gosec // spreads load
		select {
		case <-timer.C:
		case <-q.exporter.poke:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// look starts what is due and counts what is open.
func (q *Queue) look(ctx context.Context, sending *sync.WaitGroup) error {
	now := time.Now()
	counts, oldest := map[State]int{}, now
	running := map[string]observed{}
	var due []dueJob
	for row, err := range q.deps.Rows.Scan(ctx, openPrefix, "") {
		if err != nil {
			return err
		}
		id := row.Key[len(openPrefix):]
		state, at, err := decodeOpen(row.Value)
		if err != nil {
			return err
		}
		counts[state]++
		if made := rows.MadeAt(id); state != Failed && made.Before(oldest) {
			oldest = made
		}
		value := string(row.Value)
		switch {
		case state == Queued && !now.Before(at) && len(due) < dueMax:
			due = append(due, dueJob{id, value, false})
		case state == Running:
			due = append(due, dueJob{id, value, q.exporter.stale(id, value, now)})
			running[id] = q.exporter.leases[id]
		}
	}
	q.exporter.leases = running
	q.deps.Meter.Open(counts, now.Sub(oldest))
	for _, d := range due {
		if !q.start(ctx, d, sending) {
			break
		}
	}
	return q.forget(ctx, now)
}

// dueJob is one that this node may send: its index row, and whether the
// lease that it tells of has run out.
type dueJob struct {
	id, value string
	stale     bool
}

// start leases an export that is due and sends it in the background. It
// returns false when this node sends as much as it may.
func (q *Queue) start(ctx context.Context, d dueJob, sending *sync.WaitGroup) (more bool) {
	id := d.id
	e, err := q.Job(ctx, id)
	if err != nil || string(encodeOpen(e.State, e.due)) != d.value {
		return true // gone, or somebody else's by now
	}
	// What a former life of this node was sending nobody sends.
	if e.State == Running && !d.stale && e.Node != q.deps.NodeID {
		return true
	}
	host := hostOf(e.url)
	free, full := q.exporter.take(id, host)
	if !free {
		return !full
	}
	if err := q.lease(ctx, e); err != nil {
		q.exporter.release(id)
		if !errors.Is(err, blobstore.ErrConflict) && ctx.Err() == nil {
			q.deps.Log.WarnContext(ctx, "export could not be leased", "export_id", id, "error", err)
		}
		return true
	}
	sending.Go(func() {
		defer q.Poke()
		defer q.exporter.release(id)
		q.sendLeased(ctx, e)
	})
	return true
}

// take reserves a place for an export to host. Full: there is none for any.
func (x *exporter) take(id, host string) (ok, full bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.mine) >= atOnce {
		return false, true
	}
	if _, running := x.mine[id]; running || x.hosts[host] >= perHost {
		return false, false
	}
	x.mine[id] = host
	x.hosts[host]++
	return true, false
}

func (x *exporter) release(id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	host := x.mine[id]
	delete(x.mine, id)
	if x.hosts[host]--; x.hosts[host] <= 0 {
		delete(x.hosts, host)
	}
}

// lease makes this node the one that sends e, for as long as it renews that.
func (q *Queue) lease(ctx context.Context, e *Job) error {
	e.State, e.Node, e.NextTry = Running, q.deps.NodeID, nil
	e.Attempts++
	return q.renew(ctx, e)
}

// renew commits e with a lease that begins now.
func (q *Queue) renew(ctx context.Context, e *Job) error {
	e.due = time.Now().Add(leaseFor)
	c := &rows.Change{}
	e.Put(c)
	txn, err := c.Done()
	if err != nil {
		return err
	}
	e.Revision, err = q.deps.Rows.Commit(ctx, txn)
	return err
}

// sendLeased sends while it keeps the lease, and commits what became of it.
func (q *Queue) sendLeased(ctx context.Context, e *Job) {
	sending, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	result := make(chan delivered, 1)
	go func() { // it ends with the context, and is waited for below
		receipt, err := q.send(sending, e)
		result <- delivered{receipt, err}
	}()
	tick := time.NewTicker(leaseFor / 3)
	defer tick.Stop()
	for {
		select {
		case d := <-result:
			q.finish(ctx, e, d)
			return
		case <-tick.C:
			err := q.renew(sending, e)
			switch {
			case errors.Is(err, blobstore.ErrConflict):
				cancel(errLeaseLost)
				<-result
				return
			case err != nil && time.Now().After(e.due.Add(-leaseFor/3)):
				q.deps.Log.WarnContext(ctx, "the lease of an export could not be renewed",
					"export_id", e.ID, "error", err)
			}
		}
	}
}

// delivered is what became of a try.
type delivered struct {
	receipt delivery.Receipt
	err     error
}

// send sends the sound once.
func (q *Queue) send(ctx context.Context, e *Job) (delivery.Receipt, error) {
	r, err := q.deps.Shelf.Open(ctx, e.Blob)
	if err != nil {
		return delivery.Receipt{}, err
	}
	header := map[string]string{"Content-Type": e.ContentType}
	for name, value := range e.headers {
		if strings.EqualFold(name, "Content-Type") {
			delete(header, "Content-Type")
		}
		header[name] = value
	}
	receipt, err := q.deps.Sender.Send(ctx, delivery.Request{
		Method: e.Method, URL: e.url, Header: header, Body: r, Size: e.Size,
	})
	return receipt, errors.Join(err, r.Close())
}

// finish commits the result of a try. A node that is closing gives the
// export back.
func (q *Queue) finish(ctx context.Context, e *Job, d delivered) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	ok := d.err == nil && d.receipt.Status/100 == 2
	switch {
	case ok:
		e.State, e.Error, e.Ended = Done, "", &now
	case ctx.Err() != nil:
		e.Attempts--
		e.wait(now)
	default:
		e.failed(d, now)
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitWait)
	defer cancel()
	if err := q.commitResult(bounded, e); err != nil {
		q.deps.Log.WarnContext(ctx, "result of an export is not kept, it will be sent again",
			"export_id", e.ID, "sent", ok, "error", err)
		return
	}
	q.deps.Meter.Tried(e.State)
	if e.State == Failed {
		q.deps.Log.ErrorContext(ctx, "export was given up", "export_id", e.ID, "recording_id", e.RecordingID,
			"account", e.Account, "item", e.Item, "attempts", e.Attempts, "error", e.Error)
	}
}

// failed notes a try that did not work and decides about the next.
func (e *Job) failed(d delivered, now time.Time) {
	if d.err != nil {
		e.Error = d.err.Error()
	} else {
		e.Error = fmt.Sprintf("%s %s: status %d %s", e.Method, e.Target, d.receipt.Status, d.receipt.Text)
	}
	if len(e.Error) > feed.DetailBytesMax {
		e.Error = e.Error[:feed.DetailBytesMax]
	}
	if errors.Is(d.err, fault.ErrTarget) || now.Sub(e.since) > giveUp {
		e.State, e.Ended, e.NextTry = Failed, &now, nil
		return
	}
	e.wait(now.Add(max(pauseAfter(e.Attempts), d.receipt.RetryAfter)))
}

// commitResult writes what became of e, and with a success frees the sound
// that was to be kept no longer.
func (q *Queue) commitResult(ctx context.Context, e *Job) error {
	_, err := q.deps.Rows.Write(ctx, func() (blobstore.Txn, error) {
		now, err := q.Job(ctx, e.ID)
		if err != nil {
			return blobstore.Txn{}, err
		}
		if now.Revision != e.Revision { // removed and made anew, or leased by another
			return blobstore.Txn{}, errLeaseLost
		}
		c := &rows.Change{}
		e.Put(c)
		switch e.State {
		case Done:
			feed.Add(c, feed.ExportDone, event(e))
			if err := q.deps.Sounds.Sent(ctx, c, e); err != nil {
				return blobstore.Txn{}, err
			}
		case Failed:
			feed.Add(c, feed.ExportFailed, event(e))
		case Queued, Running:
		}
		return c.Done()
	})
	return err
}

// forget deletes the rows of exports that were done long ago.
func (q *Queue) forget(ctx context.Context, now time.Time) error {
	for row, err := range q.deps.Rows.Scan(ctx, donePrefix, "") {
		if err != nil {
			return err
		}
		id := row.Key[len(donePrefix):]
		if now.Sub(rows.MadeAt(id)) < kept {
			return nil // they sort by their age
		}
		e, err := q.Job(ctx, id)
		if err != nil {
			continue
		}
		if e.Ended == nil || now.Sub(*e.Ended) < kept {
			continue
		}
		c := &rows.Change{}
		e.Remove(c)
		txn, err := c.Done()
		if err == nil {
			_, err = q.deps.Rows.Commit(ctx, txn)
		}
		if err != nil && !errors.Is(err, blobstore.ErrConflict) {
			return err
		}
	}
	return nil
}

func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}
