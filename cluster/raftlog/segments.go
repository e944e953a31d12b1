package raftlog

import (
	"log/slog"
	"sync"

	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// segments opens the log's files. It differs from raft-wal's own in one case:
// when raft removes the newest entries, raft-wal v0.4.0 seals the segment they
// were in without writing its index, and after a restart nothing in that
// segment can be read ("sealed segment has no index block"). Such a segment is
// opened as an unfinished one is, by reading through it. That changes nothing
// in the file, and what was removed is beyond the segment's last index.
//
// And it removes files beside the log: raft-wal does so while it keeps writers
// out, and to free the blocks of a file takes the time of several writes. A
// file that a crash leaves behind is removed when the log is opened next.
type segments struct {
	*segment.Filer

	dir string
	fs  types.VFS
	log *slog.Logger

	mu      sync.Mutex
	removal sync.WaitGroup // added to under mu
	closed  bool           // guarded by mu
}

func newSegments(dir string, fs types.VFS, log *slog.Logger) *segments {
	return &segments{Filer: segment.NewFiler(dir, fs), dir: dir, fs: fs, log: log}
}

// Delete removes a segment that nobody reads any more, soon.
func (s *segments) Delete(baseIndex, id uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil // as if we had crashed
	}
	s.removal.Go(func() {
		if err := s.Filer.Delete(baseIndex, id); err != nil {
			s.log.Warn("segment of the log not removed", "base", baseIndex, "error", err)
		}
	})
	return nil
}

// close waits for files that are being removed.
func (s *segments) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.removal.Wait()
}

// Create makes a segment.
func (s *segments) Create(info types.SegmentInfo) (types.SegmentWriter, error) {
	info.Codec = checkedCodecID
	return s.Filer.Create(info) //nolint:wrapcheck // raft-wal compares this error
}

// RecoverTail opens the newest segment.
func (s *segments) RecoverTail(info types.SegmentInfo) (types.SegmentWriter, error) {
	info.Codec = checkedCodecID
	return s.Filer.RecoverTail(info) //nolint:wrapcheck // raft-wal compares this error
}

// Open opens a sealed segment for reading.
func (s *segments) Open(info types.SegmentInfo) (types.SegmentReader, error) {
	info.Codec = checkedCodecID
	if info.IndexStart == 0 {
		return s.Filer.RecoverTail(info) //nolint:wrapcheck // raft-wal compares this error
	}
	return s.Filer.Open(info) //nolint:wrapcheck // raft-wal compares this error
}
