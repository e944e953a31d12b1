package library

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"carillon/blobstore"
	"carillon/library/rows"
)

// errSuperseded: the item was written elsewhere after the spooled write.
var errSuperseded = errors.New("the item was written again after this")

// dropUnfinished removes the uploads that a former life of this node did not
// finish: nobody was told that they are kept.
func (l *Library) dropUnfinished() {
	for _, item := range l.deps.Spool.Items() {
		if _, ended := item.End(); ended || entryOf(item).Kind != spoolPut || item.Damaged() {
			continue
		}
		if err := item.Remove(); err != nil {
			l.log.Warn("unfinished upload stays in the spool", "spool_id", item.Name(), "error", err)
		}
	}
}

// unspool replays what waits whenever there is a leader, in the order of
// arrival.
func (l *Library) unspool(ctx context.Context) {
	tick := time.NewTicker(spoolEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if l.deps.Spool.Stats().Items == 0 || l.deps.Led != nil && !l.deps.Led() {
			continue
		}
		for _, item := range l.deps.Spool.Items() {
			if !l.replay(ctx, item) {
				break // the next in order must not come before it
			}
		}
	}
}

// replay says whether the item is done with, or is not to be waited for.
func (l *Library) replay(ctx context.Context, item *blobstore.SpoolItem) bool {
	e := entryOf(item)
	_, ended := item.End()
	if e.Kind == spoolPut && !ended && !item.Damaged() || e.Record != "" && l.session(e.Record) != nil {
		return true // still arriving
	}
	err := l.replayOnce(ctx, item, &e)
	switch {
	case ctx.Err() != nil:
		return false
	case err == nil:
		e.State = SpoolStored
		l.metrics.replayed("ok")
		if err := item.Remove(); err != nil {
			l.log.WarnContext(ctx, "replayed item stays in the spool", "spool_id", e.ID, "error", err)
		}
		l.log.InfoContext(ctx, "spooled item was replayed", "spool_id", e.ID, "kind", e.Kind,
			"account", e.Account, "item", e.Item, "bytes", e.Bytes, "waited", time.Since(e.Created).String())
	case l.spoolable(ctx, err), errors.Is(err, blobstore.ErrNoSpace), errors.Is(err, blobstore.ErrClosed):
		l.log.InfoContext(ctx, "spooled item waits on", "spool_id", e.ID, "error", err)
		return false
	default:
		e.State, e.Detail = SpoolQuarantined, err.Error()
		l.metrics.replayed(resultOf(err))
		if err := item.Quarantine(err.Error()); err != nil {
			l.log.ErrorContext(ctx, "spooled item not put aside", "spool_id", e.ID, "error", err)
			return false
		}
	}
	l.spoolOver(e)
	return true
}

func (l *Library) replayOnce(ctx context.Context, item *blobstore.SpoolItem, e *SpoolEntry) error {
	switch {
	case e.Kind == spoolRecording:
		return l.replaySpoken(ctx, item)
	case e.Kind != spoolPut:
		return fmt.Errorf("kind %q: %w", e.Kind, blobstore.ErrFormat)
	case item.Damaged():
		return fmt.Errorf("a part cannot be read: %w", blobstore.ErrCorrupt)
	}
	return l.replayPut(ctx, item)
}

// replaySpoken replays a recording. Of a damaged one what is before the damage
// is kept as a recording, and the item is put aside all the same.
func (l *Library) replaySpoken(ctx context.Context, item *blobstore.SpoolItem) error {
	err := l.replayRecording(ctx, item)
	if err == nil && item.Damaged() {
		return fmt.Errorf("a part cannot be read: %w", blobstore.ErrCorrupt)
	}
	return err
}

// replayPut stores a spooled upload as if it came now, unless somebody wrote
// the item after it had arrived: of two writes the later counts, by the clocks
// of the nodes that took them. Again after it was stored: success.
func (l *Library) replayPut(ctx context.Context, item *blobstore.SpoolItem) error {
	var m spoolMeta
	var end spoolEnd
	raw, _ := item.End()
	if err := errors.Join(json.Unmarshal(item.Meta(), &m), json.Unmarshal(raw, &end)); err != nil {
		return fmt.Errorf("%w: %w", blobstore.ErrCorrupt, err)
	}
	blob, err := blobstore.ParseID(end.Blob)
	if err != nil {
		return err
	}
	if err := l.rows.Fresh(ctx); err != nil {
		return err
	}
	if err := l.replayOps(ctx, item); err != nil {
		return err
	}
	u := upload{
		account: m.Account, id: m.Item, opts: end.Options, arrived: item.Created(),
		sound: sound{blob: blob, totals: end.Totals, info: end.Info},
	}
	_, _, err = l.commitUpload(ctx, &u, func(before *Document) error {
		switch {
		case before == nil:
			return nil
		case before.Blob == blob:
			return rows.ErrDone
		case before.Modified.After(item.Created()):
			return fmt.Errorf("revision %d of %s: %w", before.Revision,
				before.Modified.Format(time.RFC3339Nano), errSuperseded)
		}
		return nil
	})
	if errors.Is(err, rows.ErrDone) {
		return nil
	}
	return err
}

// replayOps brings an item's operations to the cluster. They may have been
// there before: all can be repeated.
func (l *Library) replayOps(ctx context.Context, item *blobstore.SpoolItem) error {
	return item.Replay(func(op blobstore.Op) error {
		switch op.Kind {
		case blobstore.OpBegin:
			return l.writer.Begin(ctx, op.ID, op.Spec)
		case blobstore.OpAppend:
			return l.writer.Append(ctx, op.ID, op.Offset, op.Data)
		case blobstore.OpSeal:
			return l.writer.Seal(ctx, op.ID, op.Totals)
		case blobstore.OpPut:
			return l.writer.Put(ctx, op.ID, op.Spec, op.Data, op.Totals)
		case blobstore.OpRemove:
		}
		return fmt.Errorf("operation %d: %w", op.Kind, blobstore.ErrFormat)
	})
}
