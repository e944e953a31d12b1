package blobstore

import (
	"context"
	"log/slog"
	"sync"

	"golang.org/x/sys/unix"
)

// writebackBytes is after how many bytes in the value log the kernel is told to
// begin writing them: enough for the disk to take them in long runs, and so
// little that a sync finds nearly nothing left to do, which the fsyncs of the
// raft logs on the same disk would wait behind.
const writebackBytes = 8 << 20

// writebackAlign is what the kernel writes at a time at most. The file's cache
// lies in pieces of up to 2 MiB, each dirty as a whole: one that is written while
// it fills is written twice.
const writebackAlign = 2 << 20

// writeback keeps what the value log has not given to the disk yet small. It
// makes nothing durable and waits for nothing.
type writeback struct {
	log  *slog.Logger
	wake chan struct{} // capacity 1
	done chan struct{}

	mu      sync.Mutex
	pending int64      // written and not begun, guarded by mu
	file    *valueFile // that was written last; guarded by mu
	begun   *valueFile // whose writing was begun, by run alone
	offset  int64      // up to here, by run alone
}

func newWriteback(log *slog.Logger) *writeback {
	return &writeback{log: log, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// wrote notes n bytes that are in f now.
func (w *writeback) wrote(f *valueFile, n int64) {
	w.mu.Lock()
	w.pending += n
	if w.file == nil || f.number > w.file.number {
		w.file = f
	}
	due := w.pending >= writebackBytes
	w.mu.Unlock()
	if !due {
		return
	}
	select {
	case w.wake <- struct{}{}:
	default: // it is awake
	}
}

func (w *writeback) run(ctx context.Context, values *valueLog) {
	defer close(w.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		}
		w.mu.Lock()
		w.pending = 0
		newest := w.file
		w.mu.Unlock()
		if w.begun != nil && w.begun != newest {
			w.begin(values, w.begun, w.begun.size.Load()) // to its end
		}
		if w.begun != newest {
			w.begun, w.offset = newest, 0
		}
		end := newest.size.Load()
		w.begin(values, newest, end-end%writebackAlign)
	}
}

// begin has the kernel begin to write f up to end.
func (w *writeback) begin(values *valueLog, f *valueFile, end int64) {
	if end <= w.offset {
		return
	}
	if _, err := values.use(f.number); err != nil {
		return // collected
	}
	defer f.release()
	err := unix.SyncFileRange(int(f.file.Fd()), w.offset, end-w.offset, unix.SYNC_FILE_RANGE_WRITE)
	if err != nil {
		w.log.Warn("early writing of the value log", "error", err)
	}
	w.offset = end
}
