package blobstore

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// writebackBytes is after how many bytes in the value log the kernel is told to
// begin writing them: enough for the disk to take them in long runs, and so
// little that the sync which ends a file of 128 MiB, and which every writer of
// the store waits for, finds nearly nothing left to do.
const writebackBytes = 8 << 20

// writebackAlign is what the kernel writes at a time at most. The file's cache
// lies in pieces of up to 2 MiB, each dirty as a whole: one that is written while
// it fills is written twice.
const writebackAlign = 2 << 20

// writeback keeps what the value log has not given to the disk yet small. It
// makes nothing durable and waits for nothing.
type writeback struct {
	dir     string
	log     *slog.Logger
	pending atomic.Int64
	wake    chan struct{} // capacity 1
	done    chan struct{}
	file    uint32 // the newest value-log file that it has seen
	offset  int64  // how far that is filled, at least
}

func newWriteback(dir string, log *slog.Logger) *writeback {
	w := &writeback{dir: dir, log: log, wake: make(chan struct{}, 1), done: make(chan struct{})}
	files, _ := filepath.Glob(filepath.Join(dir, "*.vlog")) // the pattern is well formed
	for _, path := range files {
		var n uint32
		if _, err := fmt.Sscanf(filepath.Base(path), "%d.vlog", &n); err == nil {
			w.file = max(w.file, n)
		}
	}
	return w
}

func (w *writeback) path(file uint32) string {
	return filepath.Join(w.dir, fmt.Sprintf("%06d.vlog", file))
}

// wrote notes bytes that a commit has added to the value log.
func (w *writeback) wrote(bytes int64) {
	if bytes == 0 || w.pending.Add(bytes) < writebackBytes {
		return
	}
	select {
	case w.wake <- struct{}{}:
	default: // it is awake
	}
}

func (w *writeback) run(ctx context.Context) {
	defer close(w.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		}
		if err := w.begin(w.pending.Swap(0)); err != nil {
			w.log.Warn("early writing of the value log", "error", err)
		}
	}
}

// begin has the kernel begin to write what is in the newest file, after so many
// more bytes. Older ones were synced when they were cut to size.
func (w *writeback) begin(more int64) error {
	for {
		if _, err := os.Stat(w.path(w.file + 1)); err != nil {
			break // the file in use has no successor
		}
		w.file, w.offset, more = w.file+1, 0, 0 // those may be in the one before
	}
	w.offset += more
	end := w.offset - w.offset%writebackAlign
	if end == 0 {
		return nil
	}
	f, err := os.Open(w.path(w.file))
	if err != nil {
		return fmt.Errorf("open value log: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	if err := unix.SyncFileRange(int(f.Fd()), 0, end, unix.SYNC_FILE_RANGE_WRITE); err != nil {
		return fmt.Errorf("write value log: %w", err)
	}
	return nil
}
