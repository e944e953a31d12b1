package library

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"carillon/audio"
	"carillon/blobstore"
	"carillon/library/naming"
)

const (
	// SpoolWaitDefault is how long an upload waits for a leader before it goes
	// to the spool: longer than an election, so that the loss of a leader is
	// a delay and no detour.
	SpoolWaitDefault = 3 * time.Second
	// spoolEvery is how often what waits is tried again.
	spoolEvery = time.Second
	// spoolDoneMax is how many replayed items are remembered for those who ask.
	spoolDoneMax = 1000
	// stateSpooled is Document.State of an upload that waits.
	stateSpooled = "spooled"

	spoolVersion = 1
	spoolPut     = "put"
)

// What becomes of a spooled item.
const (
	SpoolWaiting     = "spooled"     // it waits for a majority
	SpoolStored      = "stored"      // it has been replayed
	SpoolQuarantined = "quarantined" // it could not be replayed and was put aside
)

// SpoolEntry is one spooled item as a client sees it.
type SpoolEntry struct {
	ID      string `json:"id"`
	Kind    string `json:"kind"`
	State   string `json:"state"`
	Account string `json:"account,omitempty"`
	Item    string `json:"item,omitempty"`         // of an upload
	Record  string `json:"recording_id,omitempty"` // of a recording
	// Complete says that its source has ended: all of it is on this node's disk.
	Complete bool      `json:"complete"`
	Bytes    int64     `json:"bytes"`
	Created  time.Time `json:"created"`
	Detail   string    `json:"detail,omitempty"` // why it was put aside
}

// spoolMeta is what an item of the spool is for, in its meta. The JSON names
// are a format.
type spoolMeta struct {
	Version int    `json:"v"`
	Kind    string `json:"k"`
	Account string `json:"a"`
	Item    string `json:"i,omitempty"`
	// Of a recording: its id, its row as it was or is to be committed, the
	// revision it was read at, and whether it was committed.
	Record   string `json:"r,omitempty"`
	Row      []byte `json:"w,omitempty"`
	Revision uint64 `json:"n,omitempty"`
	Claimed  bool   `json:"c,omitempty"`
}

// spoolEnd is what completes an upload: all that its document is made of. The
// names of the fields are a format.
type spoolEnd struct {
	Options PutOptions
	Blob    string
	Totals  blobstore.Totals
	Info    audio.Info
}

// spooling says whether uploads may be spooled.
func (l *Library) spooling() bool { return l.deps.Spool != nil }

// spoolable says whether err means that the cluster cannot take something now,
// and not that the client went away.
func (l *Library) spoolable(ctx context.Context, err error) bool {
	return ctx.Err() == nil && (errors.Is(err, ErrUnavailable) || errors.Is(err, blobstore.ErrUnavailable) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled))
}

// whileLed returns a context that ends when there is no leader after SpoolWait.
// A leader that is slow is waited for.
func (l *Library) whileLed(ctx context.Context) (context.Context, context.CancelFunc) {
	if l.deps.Led == nil {
		return context.WithTimeout(ctx, l.cfg.SpoolWait)
	}
	ctx, cancel := context.WithCancel(ctx)
	var timer *time.Timer
	timer = time.AfterFunc(time.Hour, func() {
		if l.deps.Led() {
			timer.Reset(l.cfg.SpoolWait)
			return
		}
		cancel()
	})
	timer.Reset(l.cfg.SpoolWait) // now, when timer is set
	return ctx, func() {
		timer.Stop()
		cancel()
	}
}

// spoolWriter returns the writer of an upload, or nil for one with conditions:
// whether those hold only a majority can say.
func (l *Library) spoolWriter(account, id string, opts *PutOptions) *spoolWriter {
	if !l.spooling() || opts.IfMatch != "" || opts.IfNoneMatch != "" {
		return nil
	}
	meta, err := json.Marshal(spoolMeta{Version: spoolVersion, Kind: spoolPut, Account: account, Item: id})
	if err != nil {
		return nil // cannot happen, and then it is not spooled
	}
	return &spoolWriter{l: l, meta: meta, taken: make(map[int64]int)}
}

// storeUpload commits an upload, or leaves it in the spool if there is no
// leader. One whose sound went there goes there whole.
func (l *Library) storeUpload(
	ctx context.Context, w *spoolWriter, u upload,
) (d Document, created bool, err error) {
	if w == nil {
		return l.commitUpload(ctx, &u, nil)
	}
	if w.spooled() == nil {
		bounded, cancel := l.whileLed(ctx)
		d, created, err = l.commitUpload(bounded, &u, nil)
		cancel()
		if err == nil || !l.spoolable(ctx, err) {
			return d, created, err
		}
	}
	d, err = l.putSpooled(ctx, w, &u)
	return d, false, err
}

// putSpooled completes a spooled upload. It is acknowledged as such.
func (l *Library) putSpooled(ctx context.Context, w *spoolWriter, u *upload) (Document, error) {
	before, err := l.current(ctx, u.account, u.id)
	if err != nil {
		return Document{}, err
	}
	d, err := l.replacing(ctx, &u.opts, before, u.account, u.id) // as far as this node knows
	if err != nil {
		return Document{}, err
	}
	item, err := w.whole(ctx, &u.sound)
	if err != nil {
		return Document{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	end, err := json.Marshal(spoolEnd{u.opts, u.sound.blob.String(), u.sound.totals, u.sound.info})
	if err == nil {
		err = item.Finish(end)
	}
	if err != nil {
		return Document{}, errors.Join(fmt.Errorf("%w: %w", ErrUnavailable, err), item.Remove())
	}
	d.sounds(&u.sound)
	d.State, d.SpoolID = stateSpooled, item.Name()
	l.metrics.spooled(spoolPut)
	l.log.WarnContext(ctx, "no leader: upload went to the spool", "account", d.Account, "item", d.ID,
		"spool_id", d.SpoolID, "bytes", d.Size)
	return d, nil
}

// Spooled lists what waits on this node, in the order of arrival.
func (l *Library) Spooled() []SpoolEntry {
	all := []SpoolEntry{}
	if !l.spooling() {
		return all
	}
	for _, item := range l.deps.Spool.Items() {
		if e := entryOf(item); e.Kind != "" {
			all = append(all, e)
		}
	}
	return all
}

// SpoolEntry says what became of a spooled item; ErrNotFound for one that this
// node does not know any more.
func (l *Library) SpoolEntry(id string) (SpoolEntry, error) {
	if l.spooling() {
		if item, err := l.deps.Spool.Item(id); err == nil {
			return entryOf(item), nil
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, e := range l.spoolDone {
			if e.ID == id {
				return e, nil
			}
		}
	}
	return SpoolEntry{}, fmt.Errorf("spooled item %s: %w", naming.Shown(id), ErrNotFound)
}

func entryOf(item *blobstore.SpoolItem) SpoolEntry {
	var m spoolMeta
	_ = json.Unmarshal(item.Meta(), &m) // an item without a kind is shown to nobody
	_, ended := item.End()
	return SpoolEntry{
		ID: item.Name(), Complete: ended, Kind: m.Kind, State: SpoolWaiting, Account: m.Account, Item: m.Item,
		Record: m.Record,
		Bytes:  item.Size(), Created: item.Created(),
	}
}

// spoolOver remembers what became of an item.
func (l *Library) spoolOver(e SpoolEntry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spoolDone = append(l.spoolDone, e)
	if len(l.spoolDone) > spoolDoneMax {
		l.spoolDone = l.spoolDone[1:]
	}
}
