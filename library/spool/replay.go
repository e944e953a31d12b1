package spool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"carillon/blobstore"
)

// DropUnfinished removes the uploads that a former life of this node did not
// finish: nobody was told that they are kept. It is called before anything is
// spooled.
func (s *Spool) DropUnfinished() {
	for _, item := range s.deps.Items.Items() {
		if _, ended := item.End(); ended || entryOf(item).Kind != Upload || item.Damaged() {
			continue
		}
		if err := item.Remove(); err != nil {
			s.deps.Log.Warn("unfinished upload stays in the spool", "spool_id", item.Name(), "error", err)
		}
	}
}

// Run replays what waits whenever there is a leader, in the order of
// arrival.
func (s *Spool) Run(ctx context.Context) {
	tick := time.NewTicker(Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if s.deps.Items.Stats().Items == 0 || !s.Led() {
			continue
		}
		for _, item := range s.deps.Items.Items() {
			if !s.replay(ctx, item) {
				break // the next in order must not come before it
			}
		}
	}
}

// replay says whether the item is done with, or is not to be waited for.
func (s *Spool) replay(ctx context.Context, item *blobstore.SpoolItem) bool {
	e := entryOf(item)
	_, ended := item.End()
	if e.Kind == Upload && !ended && !item.Damaged() || e.Record != "" && s.deps.Replayer.Live(e.Record) {
		return true // still arriving
	}
	err := s.replayOnce(ctx, item, &e)
	switch {
	case ctx.Err() != nil:
		return false
	case err == nil:
		e.State = Stored
		s.deps.Meter.Replayed(nil)
		if err := item.Remove(); err != nil {
			s.deps.Log.WarnContext(ctx, "replayed item stays in the spool", "spool_id", e.ID, "error", err)
		}
		s.deps.Log.InfoContext(ctx, "spooled item was replayed", "spool_id", e.ID, "kind", e.Kind,
			"account", e.Account, "item", e.Item, "bytes", e.Bytes, "waited", time.Since(e.Created).String())
	case s.Refused(ctx, err), errors.Is(err, blobstore.ErrNoSpace), errors.Is(err, blobstore.ErrClosed):
		s.deps.Log.InfoContext(ctx, "spooled item waits on", "spool_id", e.ID, "error", err)
		return false
	default:
		e.State, e.Detail = Quarantined, err.Error()
		s.deps.Meter.Replayed(err)
		if err := item.Quarantine(err.Error()); err != nil {
			s.deps.Log.ErrorContext(ctx, "spooled item not put aside", "spool_id", e.ID, "error", err)
			return false
		}
	}
	s.over(e)
	return true
}

func (s *Spool) replayOnce(ctx context.Context, item *blobstore.SpoolItem, e *Entry) error {
	switch {
	case e.Kind == Recording:
		return s.replaySpoken(ctx, item)
	case e.Kind != Upload:
		return fmt.Errorf("kind %q: %w", e.Kind, blobstore.ErrFormat)
	case item.Damaged():
		return fmt.Errorf("a part cannot be read: %w", blobstore.ErrCorrupt)
	}
	return s.deps.Replayer.ReplayUpload(ctx, item)
}

// replaySpoken replays a recording. Of a damaged one what is before the damage
// is kept as a recording, and the item is put aside all the same.
func (s *Spool) replaySpoken(ctx context.Context, item *blobstore.SpoolItem) error {
	err := s.deps.Replayer.ReplayRecording(ctx, item)
	if err == nil && item.Damaged() {
		return fmt.Errorf("a part cannot be read: %w", blobstore.ErrCorrupt)
	}
	return err
}

// Operations brings an item's operations to the cluster. They may have been
// there before: all can be repeated. The pieces of a recording, which are as
// small as a look finds them, go in pieces as large as they may be.
func (s *Spool) Operations(ctx context.Context, item *blobstore.SpoolItem) error {
	var piece blobstore.Op // not written yet
	flush := func() error {
		if len(piece.Data) == 0 {
			return nil
		}
		err := s.deps.Writer.Append(ctx, piece.ID, piece.Offset, piece.Data)
		piece.Data = nil
		return err
	}
	err := item.Replay(func(op blobstore.Op) error {
		if op.Kind == blobstore.OpAppend && follows(&piece, &op) {
			piece.Data = append(piece.Data, op.Data...)
			return nil
		}
		if err := flush(); err != nil {
			return err
		}
		if op.Kind == blobstore.OpAppend {
			piece = op
			return nil
		}
		return s.operation(ctx, &op)
	})
	if err != nil {
		return err
	}
	return flush()
}

// follows says whether an append goes on where piece ends, and fits into one
// with it. The chunks of an upload never do.
func follows(piece, op *blobstore.Op) bool {
	return len(piece.Data) > 0 && op.ID == piece.ID && op.Offset == piece.Offset+int64(len(piece.Data)) &&
		len(piece.Data)+len(op.Data) <= blobstore.LivePieceBytesMax
}

func (s *Spool) operation(ctx context.Context, op *blobstore.Op) error {
	switch op.Kind {
	case blobstore.OpBegin:
		return s.deps.Writer.Begin(ctx, op.ID, op.Spec)
	case blobstore.OpSeal:
		return s.deps.Writer.Seal(ctx, op.ID, op.Totals)
	case blobstore.OpPut:
		return s.deps.Writer.Put(ctx, op.ID, op.Spec, op.Data, op.Totals)
	case blobstore.OpAppend, blobstore.OpRemove:
	}
	return fmt.Errorf("operation %d: %w", op.Kind, blobstore.ErrFormat)
}
