package blobstore

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Defaults of SpoolConfig.
const (
	// SpoolBytesMax holds the uploads of a busy hour, or a day of a hundred
	// recordings at 16 kbit/s, and is small beside the disk.
	SpoolBytesMax = 1 << 30
	// SpoolItemsMax bounds the files of the directory, and what a start reads.
	SpoolItemsMax = 10_000

	spoolExt       = ".spool"
	quarantineDir  = "quarantine"
	reasonExt      = ".reason"
	spoolNameBytes = 16 // hexadecimal digits
)

// SpoolConfig says where a Spool is and how much it may hold. Zero fields mean
// the default.
type SpoolConfig struct {
	Dir      string
	BytesMax int64 // SpoolBytesMax
	ItemsMax int   // SpoolItemsMax
}

// Spool keeps on this node's disk what the cluster cannot take now: items of
// operations on blobs, in the order of their arrival, each a plain file of its
// own. Whatever a method has taken is durable when it returns. All methods may
// be called concurrently.
//
// The spool does not know what an item is for: its owner writes that into the
// item's meta, and replays it.
type Spool struct {
	cfg SpoolConfig
	log *slog.Logger

	mu    sync.Mutex
	items map[uint64]*SpoolItem // guarded by mu
	next  uint64                // guarded by mu
	bytes int64                 // of all items, guarded by mu
	kept  int                   // quarantined ones, guarded by mu
}

// SpoolStats is what waits in a Spool.
type SpoolStats struct {
	Items       int
	Bytes       int64
	Oldest      time.Time // zero when nothing waits
	Quarantined int
}

// OpenSpool opens or creates the spool in cfg.Dir and reads what a former life
// of the node left there. The end of an item that a crash cut is dropped: it
// was acknowledged to nobody.
func OpenSpool(cfg SpoolConfig, log *slog.Logger) (*Spool, error) {
	cfg.BytesMax = cmp.Or(cfg.BytesMax, SpoolBytesMax)
	cfg.ItemsMax = cmp.Or(cfg.ItemsMax, SpoolItemsMax)
	s := &Spool{
		cfg: cfg, log: log.With("component", "spool"), items: make(map[uint64]*SpoolItem), next: 1,
	}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, quarantineDir), 0o700); err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	names, err := s.names(cfg.Dir)
	if err != nil {
		return nil, err
	}
	kept, err := s.names(filepath.Join(cfg.Dir, quarantineDir))
	if err != nil {
		return nil, err
	}
	s.kept = len(kept)
	for _, seq := range append(kept, names...) {
		s.next = max(s.next, seq+1)
	}
	for _, seq := range names {
		item, err := s.load(seq)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		if item != nil {
			s.items[seq] = item
			s.bytes += item.size
		}
	}
	if n := len(s.items); n > 0 {
		s.log.Warn("items wait in the spool", "items", n, "bytes", s.bytes)
	}
	return s, nil
}

// names lists the numbers of the items in dir.
func (s *Spool) names(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	var all []uint64
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), spoolExt)
		seq, err := strconv.ParseUint(name, 16, 64)
		if ok && err == nil && len(name) == spoolNameBytes {
			all = append(all, seq)
		}
	}
	slices.Sort(all)
	return all, nil
}

func (s *Spool) path(seq uint64) string {
	return filepath.Join(s.cfg.Dir, spoolName(seq)+spoolExt)
}

func spoolName(seq uint64) string { return fmt.Sprintf("%0*x", spoolNameBytes, seq) }

// Create makes an item. ErrNoSpace: the spool is full.
func (s *Spool) Create(meta []byte) (*SpoolItem, error) {
	s.mu.Lock()
	if len(s.items) >= s.cfg.ItemsMax {
		s.mu.Unlock()
		return nil, fmt.Errorf("%d items in the spool: %w", s.cfg.ItemsMax, ErrNoSpace)
	}
	item := &SpoolItem{s: s, seq: s.next, created: time.Now().UTC().Truncate(time.Millisecond)}
	s.next++
	s.items[item.seq] = item
	s.mu.Unlock()
	err := item.create(meta)
	if err == nil {
		err = syncPath(s.cfg.Dir)
	}
	if err != nil {
		return nil, errors.Join(err, item.Remove())
	}
	return item, nil
}

// Items are those that wait, in the order of their arrival.
func (s *Spool) Items() []*SpoolItem {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*SpoolItem, 0, len(s.items))
	for _, i := range s.items {
		all = append(all, i)
	}
	slices.SortFunc(all, func(a, b *SpoolItem) int { return cmp.Compare(a.seq, b.seq) })
	return all
}

// Item is the one of that name, or ErrNotFound.
func (s *Spool) Item(name string) (*SpoolItem, error) {
	seq, err := strconv.ParseUint(name, 16, 64)
	s.mu.Lock()
	defer s.mu.Unlock()
	if item := s.items[seq]; err == nil && item != nil {
		return item, nil
	}
	return nil, fmt.Errorf("spooled item %q: %w", name, ErrNotFound)
}

// Stats is cheap enough for every scrape.
func (s *Spool) Stats() SpoolStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := SpoolStats{Items: len(s.items), Bytes: s.bytes, Quarantined: s.kept}
	for _, i := range s.items {
		if st.Oldest.IsZero() || i.created.Before(st.Oldest) {
			st.Oldest = i.created
		}
	}
	return st
}

// take reserves n bytes.
func (s *Spool) take(n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes+n > s.cfg.BytesMax {
		return fmt.Errorf("%d bytes in the spool: %w", s.bytes, ErrNoSpace)
	}
	s.bytes += n
	return nil
}

func (s *Spool) forget(i *SpoolItem, bytes int64, kept bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.items[i.seq] == i {
		delete(s.items, i.seq)
		s.bytes -= bytes
	}
	if kept {
		s.kept++
	}
}

// Close closes the files. What is in them stays. It may be called twice.
func (s *Spool) Close() error {
	var err error
	for _, i := range s.Items() {
		err = errors.Join(err, i.close())
	}
	return err
}
