package cluster

import (
	"context"
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"carillon/blobstore"
)

// TestFetchGoesOn fetches a blob of which the first pieces are here, as after a
// fetch that was cut short, and gives all places of the node back, also when a
// fetch ends in the middle.
func TestFetchGoesOn(t *testing.T) {
	nodes := startCluster(t, 3, nil)
	n, body := nodes[2], noise(4, 20*blobstore.ChunkBytesMax+77)
	id := mustUpload(t, nodes[0], "item", body)
	eventually(t, "here", func() error {
		info, err := n.blobs.Stat(t.Context(), id)
		if err == nil && !info.Sealed {
			err = errBehind
		}
		return err
	})
	info, err := n.blobs.Stat(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	const kept = 5 * blobstore.ChunkBytesMax
	ops := []blobstore.Op{{Kind: blobstore.OpRemove, ID: id}, {Kind: blobstore.OpBegin, ID: id, Spec: info.Spec}}
	for off := 0; off < kept; off += blobstore.ChunkBytesMax {
		ops = append(ops, blobstore.Op{
			Kind: blobstore.OpAppend, ID: id, Offset: int64(off), Data: body[off:][:blobstore.ChunkBytesMax],
		})
	}
	if err := errors.Join(n.blobs.Apply(ops)...); err != nil {
		t.Fatal(err)
	}

	ended, end := context.WithCancel(t.Context())
	end()
	if err := n.pullBlob(ended, info); err == nil {
		t.Error("a fetch that had ended has fetched")
	}
	before := testutil.ToFloat64(n.metrics.pulled)
	if err := n.pullBlob(t.Context(), info); err != nil {
		t.Fatal(err)
	}
	if got := testutil.ToFloat64(n.metrics.pulled) - before; got > float64(len(body)-kept) {
		t.Errorf("fetched %v bytes of %d, %d of them were here", got, len(body), kept)
	}
	if err := hasPrefix(n, id, body); err != nil {
		t.Error(err)
	}
	if have, err := n.blobs.Stat(t.Context(), id); err != nil || !have.Sealed || have.Totals != info.Totals {
		t.Errorf("fetched %+v, %v; want %+v", have, err, info)
	}
	if taken := len(n.pieces); taken != 0 {
		t.Errorf("%d places are still taken", taken)
	}
}
