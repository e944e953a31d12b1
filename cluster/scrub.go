package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"carillon/blobstore"
	"carillon/cluster/statefile"
)

// Defaults of the scrub.
const (
	// ScrubBytesDefault is read a second: a terabyte in three days, and a tenth
	// of what the slowest disk does.
	ScrubBytesDefault = 4 << 20
	// ScrubWaitDefault is from the end of one pass to the next.
	ScrubWaitDefault = 24 * time.Hour
)

const (
	// scrubFile remembers how far the scrub is.
	scrubFile = "scrub"
	// scrubSaveWait is how often that is written down.
	scrubSaveWait = 10 * time.Second
	// scrubSlowWrite: while a write to a log takes longer, the disk has better
	// things to do, and the scrub rests for scrubRest.
	scrubSlowWrite = 100 * time.Millisecond
	scrubRest      = 2 * time.Second
	// scrubLookWait is how often it is looked whether a pass is due.
	scrubLookWait = time.Second
)

// ScrubStatus is how far a node is in reading its own copies.
type ScrubStatus struct {
	// Done is the share of the blobs that the running pass has read, 0 to 1.
	Done float64 `json:"done"`
	// Finished is the end of the last whole pass; nil: none yet.
	Finished *time.Time `json:"finished,omitempty"`
	Bytes    int64      `json:"bytes"`    // read since the start
	Corrupt  int64      `json:"corrupt"`  // blobs found damaged since the start, by reads too
	Repaired int64      `json:"repaired"` // of them, those that are whole again
	Waiting  int        `json:"waiting"`  // for a repair
	Fault    string     `json:"fault,omitempty"`
}

// scrubState is what a restart goes on from.
type scrubState struct {
	Position   string    `json:"position"` // the last blob that was read
	Finished   time.Time `json:"finished"`
	InProgress bool      `json:"in_progress"`
}

// scrub reads all blobs of this node again and again, slowly, and has what it
// finds damaged repaired.
type scrub struct {
	n *Node

	mu    sync.Mutex
	state scrubState // guarded by mu
	done  float64    // guarded by mu
	bytes int64      // guarded by mu
}

func (n *Node) scrubLoop() {
	s := n.scrub
	if n.cfg.ScrubBytes < 0 {
		return
	}
	var kept scrubState
	if err := statefile.Read(s.path(), &kept); err != nil && !errors.Is(err, os.ErrNotExist) {
		n.log.Warn("scrub begins anew", "error", err)
	}
	s.mu.Lock()
	s.state = kept
	s.mu.Unlock()
	tick := time.NewTicker(scrubLookWait)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-n.ctx.Done():
			s.save()
			return
		}
		if !n.isFormed() || !s.due(time.Now()) {
			continue
		}
		if err := s.pass(n.ctx); err != nil && n.ctx.Err() == nil {
			n.log.Error("scrub ended early", "error", err)
			n.repair.fault(err)
			pause(n.ctx, scrubRest)
		}
	}
}

func (s *scrub) path() string { return filepath.Join(s.n.cfg.Dir, scrubFile) }

func (s *scrub) due(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.InProgress || now.Sub(s.state.Finished) >= s.n.cfg.ScrubWait
}

// pass reads every blob behind the position.
func (s *scrub) pass(ctx context.Context) error {
	s.mu.Lock()
	s.state.InProgress = true
	from := s.state.Position
	s.mu.Unlock()
	if err := s.n.checkDatabases(); err != nil {
		return err
	}
	if _, err := s.n.fetchMissing(ctx); err != nil {
		s.n.log.Warn("not everything that is missing was fetched", "error", err)
	}
	ids, skipped, err := s.list(ctx, from)
	if err != nil {
		return err
	}
	saved := time.Now()
	for i, id := range ids {
		bad, err := s.n.blobs.Scrub(ctx, id, s.pace)
		switch {
		case errors.Is(err, blobstore.ErrNotFound): // removed meanwhile
		case err != nil:
			return err //nolint:wrapcheck // in the words of blobstore
		case len(bad) > 0:
			s.n.log.Error("scrub found damage", "blob", id.String(), "chunks", len(bad))
			s.n.repair.add(id)
		}
		s.mu.Lock()
		s.state.Position = id.String()
		s.done = float64(skipped+i+1) / float64(skipped+len(ids))
		s.mu.Unlock()
		if time.Since(saved) >= scrubSaveWait {
			saved = time.Now()
			s.save()
		}
	}
	s.mu.Lock()
	s.state, s.done = scrubState{Finished: time.Now().UTC()}, 0
	s.mu.Unlock()
	s.save()
	return nil
}

// list names the sealed blobs behind a position, and counts those before.
func (s *scrub) list(ctx context.Context, from string) (ids []blobstore.ID, skipped int, err error) {
	for info, err := range s.n.blobs.Blobs(ctx) {
		if err != nil {
			return nil, 0, err //nolint:wrapcheck // in the words of blobstore
		}
		switch {
		case !info.Sealed:
		case info.ID.String() <= from:
			skipped++
		default:
			ids = append(ids, info.ID)
		}
	}
	return ids, skipped, nil
}

// pace waits until so many bytes may be read: as fast as configured, and not
// while the disk is slow.
func (s *scrub) pace(ctx context.Context, bytes int) error {
	wait := time.Duration(float64(bytes) / float64(s.n.cfg.ScrubBytes) * float64(time.Second))
	s.mu.Lock()
	s.bytes += int64(bytes)
	s.mu.Unlock()
	s.n.metrics.scrubbed.Add(float64(bytes))
	for s.n.slowestWrite() > scrubSlowWrite {
		if !pause(ctx, scrubRest) {
			return ctx.Err() //nolint:wrapcheck // the end of the pass
		}
	}
	if !pause(ctx, wait) {
		return ctx.Err() //nolint:wrapcheck // as above
	}
	return nil
}

func (s *scrub) save() {
	s.mu.Lock()
	state := s.state
	s.mu.Unlock()
	if err := statefile.Write(s.path(), state); err != nil {
		s.n.log.Warn("position of the scrub not written down", "error", err)
	}
}

func (n *Node) scrubStatus() ScrubStatus {
	s := n.scrub
	s.mu.Lock()
	out := ScrubStatus{Done: s.done, Bytes: s.bytes}
	if f := s.state.Finished; !f.IsZero() {
		out.Finished = &f
	}
	s.mu.Unlock()
	n.repair.describe(&out)
	return out
}
