package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"carillon/blobstore"
	"carillon/cluster/snapshot"
	"carillon/cluster/wire"
)

// pull brings this node's shelf to what a manifest says: it fetches from other
// members what is missing here and removes what the manifest no longer names.
// Blobs that are whole here are not fetched again, so a pull that was cut short
// goes on where it stopped.
func (n *Node) pull(
	ctx context.Context, name string, owns func(blobstore.ID) bool, m *snapshot.Manifest,
) error {
	wanted := make(map[blobstore.ID]struct{})
	var missing []blobstore.Info
	for {
		want, err := m.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		wanted[want.ID] = struct{}{}
		have, err := n.blobs.Stat(ctx, want.ID)
		if err == nil && have.Sealed == want.Sealed && have.Size >= want.Size {
			continue
		}
		missing = append(missing, want)
	}
	n.log.Info("catching up by snapshot", "group", name, "blobs", len(wanted), "missing", len(missing))
	begun := time.Now()
	if err := n.pullAll(ctx, missing); err != nil {
		return err
	}
	fetched := time.Now()
	// A catalog that is behind refers to what was freed while this node was
	// away. If it cannot be asked, a later sweep frees it.
	for try := 0; try < freshTries && ctx.Err() == nil && (catalog{n}).Fresh(ctx) != nil; try++ {
		pause(ctx, wholeWait)
	}
	if err := n.dropUnnamed(owns, wanted); err != nil {
		return err
	}
	if err := n.blobs.Sync(); err != nil {
		return err //nolint:wrapcheck // in the words of blobstore
	}
	n.log.Info("caught up by snapshot", "group", name, "fetched_in", fetched.Sub(begun).String(),
		"synced_in", time.Since(fetched).String())
	return nil
}

// freshTries is how often a node that catches up asks how far the catalog is,
// for a second each, before it goes on without.
const freshTries = 10

// pullAll fetches blobs, several at a time.
func (n *Node) pullAll(ctx context.Context, missing []blobstore.Info) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var bytes int64
	for i := range missing {
		bytes += missing[i].Size
	}
	left, end := n.fetching.begin(int64(len(missing)), bytes)
	defer end()
	todo := make(chan blobstore.Info)
	var wg sync.WaitGroup
	for range min(fetchersMax, len(missing)) {
		wg.Go(func() {
			for want := range todo {
				if err := n.pullOne(ctx, want); err != nil {
					cancel(fmt.Errorf("fetch blob %s: %w", want.ID, err))
				}
				left.blob(want.Size)
			}
		})
	}
	for i := 0; i < len(missing) && ctx.Err() == nil; i++ {
		select {
		case todo <- missing[i]:
		case <-ctx.Done():
		}
	}
	close(todo)
	wg.Wait()
	return context.Cause(ctx) //nolint:wrapcheck // wrapped above
}

// pullOne is pullBlob unless the blob came another way meanwhile, see carry.go.
func (n *Node) pullOne(ctx context.Context, want blobstore.Info) error {
	if have, err := n.blobs.Stat(ctx, want.ID); err == nil && have.Sealed {
		return nil
	}
	return n.pullBlob(ctx, want)
}

// pullAhead fetches the chunks of an open upload that came before an earlier
// one: the log that follows the snapshot does not bring them again.
func (n *Node) pullAhead(ctx context.Context, node string, info blobstore.Info) error {
	if info.Spec.Live {
		return nil
	}
	b, err := n.link.Call(ctx, node, kindAhead, info.ID[:])
	if errors.Is(err, blobstore.ErrNotFound) {
		return nil // removed in the meantime
	}
	if err != nil {
		return fmt.Errorf("chunks ahead: %w", err)
	}
	d := wire.NewDecoder(b)
	for d.More() {
		off := d.Size()
		chunk, err := n.link.Call(ctx, node, kindChunk, wire.AppendInt(append([]byte(nil), info.ID[:]...), off))
		if errors.Is(err, blobstore.ErrNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("chunk at %d: %w", off, err)
		}
		if err := n.applyHere(blobstore.Op{
			Kind: blobstore.OpAppend, ID: info.ID, Offset: off, Data: chunk, At: info.Updated,
		}); err != nil {
			return err
		}
	}
	return d.Err()
}

// applyHere changes the local store only.
func (n *Node) applyHere(op blobstore.Op) error {
	return errors.Join(n.blobs.Apply([]blobstore.Op{op})...)
}

// dropUnnamed removes the blobs of a group that its manifest does not name:
// they were removed while this node was away.
func (n *Node) dropUnnamed(owns func(blobstore.ID) bool, wanted map[blobstore.ID]struct{}) error {
	var gone []blobstore.ID
	for info, err := range n.blobs.Blobs(n.ctx) {
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		if _, ok := wanted[info.ID]; ok || !owns(info.ID) {
			continue
		}
		// What came with a document, in the catalog's log, may be newer than
		// the manifest; then it has a reference.
		if referenced, err := n.referenced(n.ctx, info.ID); err != nil || referenced {
			if err != nil {
				return err
			}
			continue
		}
		gone = append(gone, info.ID)
	}
	for _, id := range gone {
		if err := n.applyHere(blobstore.Op{Kind: blobstore.OpRemove, ID: id}); err != nil {
			return err
		}
	}
	return nil
}
