package library

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
	"carillon/library/feed"
	"carillon/library/rows"
)

const (
	// exportLook is the time between two looks at the open exports, give or
	// take a quarter: that late one begins which another node has queued.
	exportLook = 5 * time.Second
	// exportsAtOnce bounds what one node sends at a time, and exportsPerHost
	// what of it goes to one host, so that a target that hangs stops no other.
	exportsAtOnce  = 8
	exportsPerHost = 3
	// exportRowsMax bounds the rows of one look; the rest is seen when these
	// are done or wait.
	exportRowsMax = 10_000
	// exportCommitWait bounds the commit of a result. When it fails the lease
	// runs out and the export is sent again.
	exportCommitWait = 5 * time.Second
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
// renewed for exportLease of this node's own clock. The clocks of two nodes are
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
	return now.Sub(seen.since) > exportLease
}

// pokeExports lets this node look at the exports at once.
func (l *Library) pokeExports() {
	select {
	case l.exporter.poke <- struct{}{}:
	default:
	}
}

// runExports looks for exports that are due, again and again, and returns when
// what it started has ended.
func (l *Library) runExports(ctx context.Context) {
	var sending sync.WaitGroup
	defer sending.Wait()
	for {
		if err := l.lookAtExports(ctx, &sending); err != nil && ctx.Err() == nil {
			l.log.WarnContext(ctx, "exports could not be looked at", "error", err)
		}
		timer := time.NewTimer(exportLook*3/4 + rand.N(exportLook/2)) //nolint:gosec // spreads load
		select {
		case <-timer.C:
		case <-l.exporter.poke:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// lookAtExports starts what is due and counts what is open.
func (l *Library) lookAtExports(ctx context.Context, sending *sync.WaitGroup) error {
	now, seen := time.Now(), 0
	counts, oldest := map[ExportState]int{}, now
	running := map[string]observed{}
	var due []dueExport
	for row, err := range l.rows.Scan(ctx, exportOpenPrefix, "") {
		if err != nil {
			return err
		}
		if seen++; seen > exportRowsMax {
			break
		}
		id := row.Key[len(exportOpenPrefix):]
		state, at, err := decodeOpen(row.Value)
		if err != nil {
			return err
		}
		counts[state]++
		if made := rows.MadeAt(id); state != ExportFailed && made.Before(oldest) {
			oldest = made
		}
		value := string(row.Value)
		switch {
		case state == ExportQueued && !now.Before(at):
			due = append(due, dueExport{id, value, false})
		case state == ExportRunning:
			due = append(due, dueExport{id, value, l.exporter.stale(id, value, now)})
			running[id] = l.exporter.leases[id]
		}
	}
	l.exporter.leases = running
	l.metrics.exports(counts, now.Sub(oldest))
	for _, d := range due {
		if !l.startExport(ctx, d, sending) {
			break
		}
	}
	return l.forgetExports(ctx, now)
}

// dueExport is one that this node may send: its index row, and whether the
// lease that it tells of has run out.
type dueExport struct {
	id, value string
	stale     bool
}

// startExport leases an export that is due and sends it in the background. It
// returns false when this node sends as much as it may.
func (l *Library) startExport(ctx context.Context, d dueExport, sending *sync.WaitGroup) (more bool) {
	id := d.id
	e, err := l.export(ctx, id)
	if err != nil || string(encodeOpen(e.State, e.due)) != d.value {
		return true // gone, or somebody else's by now
	}
	// What a former life of this node was sending nobody sends.
	if e.State == ExportRunning && !d.stale && e.Node != l.deps.NodeID {
		return true
	}
	host := hostOf(e.url)
	free, full := l.exporter.take(id, host)
	if !free {
		return !full
	}
	if err := l.lease(ctx, e); err != nil {
		l.exporter.release(id)
		if !errors.Is(err, blobstore.ErrConflict) && ctx.Err() == nil {
			l.log.WarnContext(ctx, "export could not be leased", "export_id", id, "error", err)
		}
		return true
	}
	sending.Go(func() {
		defer l.pokeExports()
		defer l.exporter.release(id)
		l.sendLeased(ctx, e)
	})
	return true
}

// take reserves a place for an export to host. Full: there is none for any.
func (x *exporter) take(id, host string) (ok, full bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.mine) >= exportsAtOnce {
		return false, true
	}
	if _, running := x.mine[id]; running || x.hosts[host] >= exportsPerHost {
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
func (l *Library) lease(ctx context.Context, e *export) error {
	e.State, e.Node, e.NextTry = ExportRunning, l.deps.NodeID, nil
	e.Attempts++
	return l.renew(ctx, e)
}

// renew commits e with a lease that begins now.
func (l *Library) renew(ctx context.Context, e *export) error {
	e.due = time.Now().Add(exportLease)
	c := l.newChange()
	c.putExport(e)
	txn, err := c.Done()
	if err != nil {
		return err
	}
	e.Revision, err = l.rows.Commit(ctx, txn)
	return err
}

// sendLeased sends while it keeps the lease, and commits what became of it.
func (l *Library) sendLeased(ctx context.Context, e *export) {
	sending, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	result := make(chan delivered, 1)
	go func() { // it ends with the context, and is waited for below
		receipt, err := l.sendExport(sending, e)
		result <- delivered{receipt, err}
	}()
	tick := time.NewTicker(exportLease / 3)
	defer tick.Stop()
	for {
		select {
		case d := <-result:
			l.finishExport(ctx, e, d)
			return
		case <-tick.C:
			err := l.renew(sending, e)
			switch {
			case errors.Is(err, blobstore.ErrConflict):
				cancel(errLeaseLost)
				<-result
				return
			case err != nil && time.Now().After(e.due.Add(-exportLease/3)):
				l.log.WarnContext(ctx, "the lease of an export could not be renewed",
					"export_id", e.ID, "error", err)
			}
		}
	}
}

// delivered is what became of a try.
type delivered struct {
	receipt Receipt
	err     error
}

// sendExport sends the sound once.
func (l *Library) sendExport(ctx context.Context, e *export) (Receipt, error) {
	r, err := l.shelf.Open(ctx, e.blob)
	if err != nil {
		return Receipt{}, err
	}
	header := map[string]string{"Content-Type": e.ContentType}
	for name, value := range e.headers {
		if strings.EqualFold(name, "Content-Type") {
			delete(header, "Content-Type")
		}
		header[name] = value
	}
	receipt, err := l.deps.Sender.Send(ctx, Delivery{
		Method: e.Method, URL: e.url, Header: header, Body: r, Size: e.Size,
	})
	return receipt, errors.Join(err, r.Close())
}

// finishExport commits the result of a try. A node that is closing gives the
// export back.
func (l *Library) finishExport(ctx context.Context, e *export, d delivered) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	ok := d.err == nil && d.receipt.Status/100 == 2
	switch {
	case ok:
		e.State, e.Error, e.Ended = ExportDone, "", &now
	case ctx.Err() != nil:
		e.Attempts--
		e.wait(now)
	default:
		e.failed(d, now)
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), exportCommitWait)
	defer cancel()
	if err := l.commitResult(bounded, e); err != nil {
		l.log.WarnContext(ctx, "result of an export is not kept, it will be sent again",
			"export_id", e.ID, "sent", ok, "error", err)
		return
	}
	l.metrics.exported(e.State)
	if e.State == ExportFailed {
		l.log.ErrorContext(ctx, "export was given up", "export_id", e.ID, "recording_id", e.RecordingID,
			"attempts", e.Attempts, "error", e.Error)
	}
}

// failed notes a try that did not work and decides about the next.
func (e *export) failed(d delivered, now time.Time) {
	if d.err != nil {
		e.Error = d.err.Error()
	} else {
		e.Error = fmt.Sprintf("%s %s: status %d %s", e.Method, e.Target, d.receipt.Status, d.receipt.Text)
	}
	if len(e.Error) > feed.DetailBytesMax {
		e.Error = e.Error[:feed.DetailBytesMax]
	}
	if errors.Is(d.err, ErrTarget) || now.Sub(e.since) > exportGiveUp {
		e.State, e.Ended, e.NextTry = ExportFailed, &now, nil
		return
	}
	e.wait(now.Add(max(pauseAfter(e.Attempts), d.receipt.RetryAfter)))
}

// commitResult writes what became of e, and with a success frees the sound
// that was to be kept no longer.
func (l *Library) commitResult(ctx context.Context, e *export) error {
	_, err := l.rows.Write(ctx, func() (blobstore.Txn, error) {
		now, err := l.export(ctx, e.ID)
		if err != nil {
			return blobstore.Txn{}, err
		}
		if now.Revision != e.Revision { // removed and made anew, or leased by another
			return blobstore.Txn{}, errLeaseLost
		}
		c := l.newChange()
		c.putExport(e)
		switch e.State {
		case ExportDone:
			c.event(feed.ExportDone, exportEvent(e))
			if err := l.deleteExported(ctx, c, e); err != nil {
				return blobstore.Txn{}, err
			}
		case ExportFailed:
			c.event(feed.ExportFailed, exportEvent(e))
		case ExportQueued, ExportRunning:
		}
		return c.Done()
	})
	return err
}

// deleteExported discards the recording that was to live only until it was
// sent, unless it has become an item or holds other sound.
func (l *Library) deleteExported(ctx context.Context, c *change, e *export) error {
	if !e.DeleteAfter {
		return nil
	}
	s, err := l.recording(ctx, e.RecordingID)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if s.Blob != e.blob || s.State != StateSealed && s.State != StateTruncated {
		return nil
	}
	c.letGo(s)
	s.State, s.EndedBy = StateDiscarded, EndedByExport
	c.putRecording(s)
	c.event(feed.RecordingDiscarded, recordingEvent(&s.Recording))
	return nil
}

// forgetExports deletes the rows of exports that were done long ago.
func (l *Library) forgetExports(ctx context.Context, now time.Time) error {
	for row, err := range l.rows.Scan(ctx, exportDonePrefix, "") {
		if err != nil {
			return err
		}
		id := row.Key[len(exportDonePrefix):]
		if now.Sub(rows.MadeAt(id)) < exportKept {
			return nil // they sort by their age
		}
		e, err := l.export(ctx, id)
		if err != nil {
			continue
		}
		if e.Ended == nil || now.Sub(*e.Ended) < exportKept {
			continue
		}
		c := l.newChange()
		c.removeExport(e)
		txn, err := c.Done()
		if err == nil {
			_, err = l.rows.Commit(ctx, txn)
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
