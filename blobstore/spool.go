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
	"sync/atomic"
	"time"
)

// Defaults of SpoolConfig.
const (
	// SpoolBytesMax holds the uploads of a busy hour, or a day of a hundred
	// recordings at 16 kbit/s, and is small beside the disk.
	SpoolBytesMax = 1 << 30
	// SpoolItemsMax bounds what is in memory of the items, and what a start reads.
	SpoolItemsMax = 10_000

	spoolExt       = ".spool"
	quarantineDir  = "quarantine"
	reasonExt      = ".reason"
	spoolNameBytes = 16 // hexadecimal digits
)

// SpoolConfig says where a Spool is and how much it may hold. Zero fields mean
// the default.
type SpoolConfig struct {
	Dir string
	// BytesMax bounds what waits: SpoolBytesMax. On the disk it takes at most a
	// quarter more, and a segment of the log.
	BytesMax int64
	ItemsMax int // SpoolItemsMax

	disk spoolDisk // nil: the real one
}

// Spool keeps on this node's disk what the cluster cannot take now: items of
// operations on blobs, in the order of their arrival, all in one log. Whatever
// a method or a batch has taken is durable when it returns, and what comes at
// one moment costs one write and one fsync. All methods may be called
// concurrently.
//
// The spool does not know what an item is for: its owner writes that into the
// item's meta, and replays it.
type Spool struct {
	cfg          SpoolConfig
	log          *slog.Logger
	segmentBytes int64
	syncs        atomic.Uint64

	// writing is held over writes to the log, and taken before mu. What says so
	// belongs to whoever holds it.
	writing sync.Mutex
	active  *segment // the newest, nil for none; writing
	unclean bool     // its end may hold what was not taken; writing
	serial  uint64   // of the newest frame; writing
	stuck   *segment // cannot be collected; writing
	owed    []uint64 // items that are gone, which the log does not know; writing

	// files is held for reading over a read from a segment, and whole over
	// closing one. It is taken after writing and before mu.
	files sync.RWMutex

	// Guarded by mu; segments, closed and what items are change only with
	// writing held, too.
	mu       sync.Mutex
	queue    []*SpoolBatch
	items    map[uint64]*SpoolItem
	segments []*segment // of the log, oldest first
	own      []*segment // items of the release before
	next     uint64     // number for an item or a segment
	making   int        // items that are not written yet
	bytes    int64      // of all items, and of what is to be written
	kept     int        // quarantined ones
	closed   bool
}

// SpoolStats is what waits in a Spool.
type SpoolStats struct {
	Items       int
	Bytes       int64
	Oldest      time.Time // zero when nothing waits
	Quarantined int
	DiskBytes   int64  // of its files, without those put aside
	Syncs       uint64 // of files and the directory, since it was opened
}

// OpenSpool opens or creates the spool in cfg.Dir and reads what a former life
// of the node left there. The end of the log that a crash cut is dropped: it
// was acknowledged to nobody.
func OpenSpool(cfg SpoolConfig, log *slog.Logger) (*Spool, error) {
	cfg.BytesMax = cmp.Or(cfg.BytesMax, SpoolBytesMax)
	cfg.ItemsMax = cmp.Or(cfg.ItemsMax, SpoolItemsMax)
	if cfg.disk == nil {
		cfg.disk = osDisk{}
	}
	s := &Spool{
		cfg: cfg, log: log.With("component", "spool"), items: make(map[uint64]*SpoolItem),
		segmentBytes: min(max(cfg.BytesMax/segmentShare, segmentBytesMin), segmentBytesMax),
		// Names are not used again, though nothing may be left of the last ones.
		next: uint64(time.Now().UnixMicro()),
	}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, quarantineDir), 0o700); err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	if err := checkFormat(cfg.Dir, "spool", 1, SpoolFormat); err != nil {
		return nil, err
	}
	kept, err := spoolNumbers(filepath.Join(cfg.Dir, quarantineDir))
	if err != nil {
		return nil, err
	}
	s.kept = len(kept)
	for _, n := range kept {
		s.next = max(s.next, n+1)
	}
	if err := s.load(); err != nil {
		return nil, errors.Join(err, s.closeFiles())
	}
	if n := len(s.items); n > 0 {
		s.log.Warn("items wait in the spool", "items", n, "bytes", s.bytes)
	}
	return s, nil
}

// spoolNumbers lists the numbers of the files in dir, in order.
func spoolNumbers(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	var all []uint64
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), spoolExt)
		n, err := strconv.ParseUint(name, 16, 64)
		if ok && err == nil && len(name) == spoolNameBytes {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all, nil
}

func (s *Spool) path(number uint64) string {
	return filepath.Join(s.cfg.Dir, spoolName(number)+spoolExt)
}

func spoolName(number uint64) string { return fmt.Sprintf("%0*x", spoolNameBytes, number) }

// number is one that nothing had before.
func (s *Spool) number() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	return s.next - 1
}

// Create makes an item. ErrNoSpace: the spool is full.
func (s *Spool) Create(meta []byte) (*SpoolItem, error) {
	b := s.Batch()
	item, err := b.Create(meta)
	if err == nil {
		err = b.Commit()
	}
	if err != nil {
		return nil, err
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
	st := SpoolStats{Items: len(s.items), Bytes: s.bytes, Quarantined: s.kept, Syncs: s.syncs.Load()}
	for _, i := range s.items {
		if st.Oldest.IsZero() || i.created.Before(st.Oldest) {
			st.Oldest = i.created
		}
	}
	for _, seg := range slices.Concat(s.segments, s.own) {
		st.DiskBytes += seg.size
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

// release lets go of an item. The locks writing and mu are held.
func (s *Spool) release(i *SpoolItem) {
	if i.gone {
		return
	}
	i.gone = true
	delete(s.items, i.seq)
	s.bytes -= i.size
	for _, all := range [][]spoolRecord{i.records, i.rest} {
		for k := range all {
			all[k].seg.live -= all[k].bytes()
		}
	}
	if i.own != nil {
		i.own.live = 0
	}
	i.records, i.rest = nil, nil
}

// Close closes the files. What waits stays. It may be called twice.
func (s *Spool) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	closed, empty := s.closed, len(s.items) == 0
	s.closed = true
	s.mu.Unlock()
	var err error
	switch {
	case closed:
		return nil
	case empty: // and the release before, which cannot read the log, may start here
		s.active = nil
		s.dropDead()
	case s.active != nil:
		// What is damaged before this frame is no end that a crash cut.
		_, _, err = s.writeFrame(s.encode(nil, 0))
	}
	return errors.Join(err, s.closeFiles())
}

func (s *Spool) closeFiles() error {
	s.files.Lock()
	defer s.files.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var err error
	for _, seg := range slices.Concat(s.segments, s.own) {
		err = errors.Join(err, seg.f.Close())
	}
	s.segments, s.own = nil, nil
	if err != nil {
		return fmt.Errorf("close spool: %w", err)
	}
	return nil
}
