package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"

	"carillon/blobstore"
)

// pull brings this node's shelf to what a manifest says: it fetches from other
// members what is missing here and removes what the manifest no longer names.
// Blobs that are whole here are not fetched again, so a pull that was cut short
// goes on where it stopped.
func (n *Node) pull(name string, owns func(blobstore.ID) bool, m *manifestReader) error {
	wanted := make(map[blobstore.ID]struct{})
	var missing []blobstore.Info
	for {
		want, err := m.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		wanted[want.ID] = struct{}{}
		have, err := n.blobs.Stat(n.ctx, want.ID)
		if err == nil && have.Sealed == want.Sealed && have.Size >= want.Size {
			continue
		}
		missing = append(missing, want)
	}
	n.log.Info("catching up by snapshot", "group", name, "blobs", len(wanted), "missing", len(missing))
	var bytes int64
	for i := range missing {
		bytes += missing[i].Size
	}
	left, end := n.fetching.begin(int64(len(missing)), bytes)
	defer end()
	for _, want := range missing {
		if have, err := n.blobs.Stat(n.ctx, want.ID); err == nil && have.Sealed {
			left.blob(want.Size)
			continue // it came another way meanwhile, see carry.go
		}
		if err := n.pullBlob(n.ctx, want); err != nil {
			return fmt.Errorf("fetch blob %s: %w", want.ID, err)
		}
		left.blob(want.Size)
	}
	if err := n.dropUnnamed(owns, wanted); err != nil {
		return err
	}
	return n.blobs.Sync() //nolint:wrapcheck // in the words of blobstore
}

// pullBlob fetches one blob into the local store. A blob that was removed in
// the meantime is no loss: the log that follows the snapshot removes it here.
func (n *Node) pullBlob(ctx context.Context, want blobstore.Info) error {
	v, err := openRemote(ctx, n, want.ID, nil)
	if errors.Is(err, blobstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer v.stop()
	info := v.Info()
	if have, err := n.blobs.Stat(ctx, want.ID); err == nil && !have.Sealed && have.Size > info.Size {
		return nil
	}
	if err := n.applyHere(
		blobstore.Op{Kind: blobstore.OpBegin, ID: info.ID, Spec: info.Spec, At: info.Updated},
	); err != nil {
		return err
	}
	buf := make([]byte, blobstore.ChunkBytesMax)
	step := int64(len(buf))
	if info.Spec.Live {
		step = blobstore.LivePieceBytesMax
	}
	for off := int64(0); off < info.Size; {
		p := buf[:min(step, info.Size-off)]
		for k := 0; k < len(p); {
			got, err := v.Read(ctx, off+int64(k), p[k:])
			if err != nil {
				return err
			}
			k += got
		}
		if err := n.applyHere(blobstore.Op{
			Kind: blobstore.OpAppend, ID: info.ID, Offset: off, Data: p, At: info.Updated,
		}); err != nil {
			return err
		}
		n.metrics.pulled.Add(float64(len(p)))
		n.fetching.moved(int64(len(p)))
		off += int64(len(p))
	}
	if !info.Sealed {
		return n.pullAhead(ctx, v.node, info)
	}
	return n.applyHere(blobstore.Op{
		Kind: blobstore.OpSeal, ID: info.ID, Totals: info.Totals, At: info.Updated,
	})
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
	d := decoder{b: b}
	for len(d.b) > 0 && d.err == nil {
		off := d.size()
		chunk, err := n.link.Call(ctx, node, kindChunk, appendInt(append([]byte(nil), info.ID[:]...), off))
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
	return d.err
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
