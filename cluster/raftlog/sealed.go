package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// raft-wal ends a segment with its last entries, in one write, and notes beside the log only
// afterwards that it goes on in the next one. A process that ends in between finds an unfinished
// segment that has an end already: raft-wal v0.4.0 opens it, and then refuses every entry for
// good ("segment is sealed"). So what was begun is finished before it looks. The same where that
// last write was torn: its entries were acknowledged to nobody, and raft-wal forgets them, but
// not that the segment has an end.

// finishSeal returns the state of a log that can be written to. It changes nothing but the end of
// a segment that was torn.
func (s *segments) finishSeal(state types.PersistentState) (types.PersistentState, error) {
	if len(state.Segments) == 0 {
		return state, nil
	}
	last := &state.Segments[len(state.Segments)-1]
	if !last.SealTime.IsZero() {
		return state, nil
	}
	w, err := s.RecoverTail(*last)
	if errors.Is(err, os.ErrNotExist) {
		return state, nil // raft-wal makes it
	}
	if err != nil {
		return state, err
	}
	sealed, indexStart, err := w.Sealed()
	end := w.LastIndex()
	if err = errors.Join(err, w.Close()); err != nil || !sealed {
		return state, err
	}
	entries, err := s.indexed(*last, indexStart)
	if err != nil {
		return state, err
	}
	if end != last.BaseIndex+entries-1 {
		return state, s.dropIndex(*last, indexStart)
	}
	now := time.Now()
	last.SealTime, last.MaxIndex, last.IndexStart = now, end, indexStart
	state.Segments = append(state.Segments, types.SegmentInfo{
		ID: state.NextSegmentID, BaseIndex: end + 1, MinIndex: end + 1,
		SizeLimit: last.SizeLimit, Codec: checkedCodecID, CreateTime: now,
	})
	state.NextSegmentID++
	return state, nil
}

// indexed is how many entries the index of a segment has. Its frame says how many bytes, of 4 each.
func (s *segments) indexed(info types.SegmentInfo, indexStart uint64) (uint64, error) {
	f, err := s.fs.OpenReader(s.dir, segment.FileName(info))
	if err != nil {
		return 0, fmt.Errorf("index of a segment: %w", err)
	}
	var head [frameHeadBytes]byte
	_, err = f.ReadAt(head[:], int64(indexStart)-frameHeadBytes)
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, fmt.Errorf("index of a segment: %w", err)
	}
	return uint64(binary.LittleEndian.Uint32(head[4:]) / 4), nil
}

// dropIndex lets a segment end before its index, as if that had not been written.
func (s *segments) dropIndex(info types.SegmentInfo, indexStart uint64) error {
	f, err := s.fs.OpenWriter(s.dir, segment.FileName(info))
	if err != nil {
		return fmt.Errorf("end of a segment: %w", err)
	}
	_, err = f.WriteAt(make([]byte, frameHeadBytes), int64(indexStart)-frameHeadBytes)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("end of a segment: %w", err)
	}
	return nil
}
