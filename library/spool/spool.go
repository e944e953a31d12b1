package spool

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"carillon/blobstore"
	"carillon/library/fault"
	"carillon/library/naming"
)

const (
	// WaitDefault is how long an upload waits for a leader before it goes
	// to the spool: longer than an election, so that the loss of a leader is
	// a delay and no detour.
	WaitDefault = 3 * time.Second
	// Every is how often what waits is tried again.
	Every = time.Second
	// doneMax is how many replayed items are remembered for those who ask.
	doneMax = 1000
	// version is that of Meta.
	version = 1
)

// Kinds of items.
const (
	Upload    = "put"
	Recording = "recording"
)

// What becomes of a spooled item.
const (
	Waiting     = "spooled"     // it waits for a majority
	Stored      = "stored"      // it has been replayed
	Quarantined = "quarantined" // it could not be replayed and was put aside
)

// Entry is one spooled item as a client sees it.
type Entry struct {
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

// Meta is what an item of the spool is for, in its meta. The JSON names
// are a format.
type Meta struct {
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

// Deps are the parts that a Spool stands on.
type Deps struct {
	Items  *blobstore.Spool // nil: nothing is spooled
	Writer blobstore.Writer // of the cluster
	Shelf  blobstore.Shelf
	// Led says whether the cluster can take writes, as far as this node knows.
	// nil: unknown, and what takes longer than the wait is spooled.
	Led      func() bool
	Replayer Replayer
	Meter    Meter
	Log      *slog.Logger
}

// Replayer makes of spooled items what they were to be. Each may be called
// again for the same item, and is success then. An error that Spool.Refused
// takes for the cluster's lets the item wait; any other puts it aside.
type Replayer interface {
	ReplayUpload(ctx context.Context, item *blobstore.SpoolItem) error
	ReplayRecording(ctx context.Context, item *blobstore.SpoolItem) error
	// Live says whether the source of a recording is on this node.
	Live(recordingID string) bool
}

// Meter counts items.
type Meter interface {
	// Spooled counts an item of a kind that went to the spool.
	Spooled(kind string)
	// Replayed counts one that was dealt with; err is why it was put aside.
	Replayed(err error)
}

// Spool is what waits on this node. Its methods may be called concurrently.
type Spool struct {
	wait time.Duration
	deps Deps

	mu   sync.Mutex
	done []Entry // the last items that were dealt with, guarded by mu
}

// New makes a Spool that waits so long for a leader; 0: WaitDefault. Nothing is
// replayed before Run.
func New(wait time.Duration, deps Deps) *Spool {
	return &Spool{wait: cmp.Or(wait, WaitDefault), deps: deps}
}

// Led says whether the cluster can take writes, as far as this node knows.
func (s *Spool) Led() bool { return s.deps.Led == nil || s.deps.Led() }

// Upload is the writer of an upload; nil when nothing is spooled.
func (s *Spool) Upload(account, id string) *Writer {
	if !s.On() {
		return nil
	}
	meta, err := json.Marshal(Meta{Version: version, Kind: Upload, Account: account, Item: id})
	if err != nil {
		return nil // cannot happen, and then it is not spooled
	}
	return &Writer{s: s, meta: meta, taken: make(map[int64]int)}
}

// Batch returns an empty batch of changes.
func (s *Spool) Batch() *blobstore.SpoolBatch { return s.deps.Items.Batch() }

// Create makes the item of a recording, as a part of a batch. The version and
// the kind of m are set.
func (s *Spool) Create(b *blobstore.SpoolBatch, m *Meta) (*blobstore.SpoolItem, error) {
	m.Version, m.Kind = version, Recording
	meta, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	return b.Create(meta)
}

// Created counts the item of a recording that is in the spool.
func (s *Spool) Created() { s.deps.Meter.Spooled(Recording) }

// Holds says whether a part of a recording waits in the spool.
func (s *Spool) Holds(recordingID string) bool {
	if !s.On() || s.deps.Items.Stats().Items == 0 {
		return false
	}
	for _, item := range s.deps.Items.Items() {
		if e := entryOf(item); e.Kind == Recording && e.Record == recordingID {
			return true
		}
	}
	return false
}

// HoldsItem says whether an upload that was acknowledged waits in the spool.
func (s *Spool) HoldsItem(account, id string) bool {
	if !s.On() || s.deps.Items.Stats().Items == 0 {
		return false
	}
	for _, item := range s.deps.Items.Items() {
		if e := entryOf(item); e.Kind == Upload && e.Complete && e.Account == account && e.Item == id {
			return true
		}
	}
	return false
}

// On says whether uploads may be spooled.
func (s *Spool) On() bool { return s.deps.Items != nil }

// Refused says whether err means that the cluster cannot take something now,
// and not that the client went away.
func (s *Spool) Refused(ctx context.Context, err error) bool {
	return ctx.Err() == nil && (errors.Is(err, fault.ErrUnavailable) ||
		errors.Is(err, blobstore.ErrUnavailable) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled))
}

// WhileLed returns a context that ends when there is no leader after SpoolWait.
// A leader that is slow is waited for.
func (s *Spool) WhileLed(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.deps.Led == nil {
		return context.WithTimeout(ctx, s.wait)
	}
	ctx, cancel := context.WithCancel(ctx)
	var timer *time.Timer
	timer = time.AfterFunc(time.Hour, func() {
		if s.deps.Led() {
			timer.Reset(s.wait)
			return
		}
		cancel()
	})
	timer.Reset(s.wait) // now, when timer is set
	return ctx, func() {
		timer.Stop()
		cancel()
	}
}

// Entries lists what waits on this node, in the order of arrival.
func (s *Spool) Entries() []Entry {
	all := []Entry{}
	if !s.On() {
		return all
	}
	for _, item := range s.deps.Items.Items() {
		if e := entryOf(item); e.Kind != "" {
			all = append(all, e)
		}
	}
	return all
}

// Entry says what became of a spooled item; fault.ErrNotFound for one that this
// node does not know any more.
func (s *Spool) Entry(id string) (Entry, error) {
	if s.On() {
		if item, err := s.deps.Items.Item(id); err == nil {
			return entryOf(item), nil
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, e := range s.done {
			if e.ID == id {
				return e, nil
			}
		}
	}
	return Entry{}, fmt.Errorf("spooled item %s: %w", naming.Shown(id), fault.ErrNotFound)
}

func entryOf(item *blobstore.SpoolItem) Entry {
	var m Meta
	_ = json.Unmarshal(item.Meta(), &m) // an item without a kind is shown to nobody
	_, ended := item.End()
	return Entry{
		ID: item.Name(), Complete: ended, Kind: m.Kind, State: Waiting, Account: m.Account, Item: m.Item,
		Record: m.Record,
		Bytes:  item.Size(), Created: item.Created(),
	}
}

// over remembers what became of an item.
func (s *Spool) over(e Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = append(s.done, e)
	if len(s.done) > doneMax {
		s.done = s.done[1:]
	}
}
