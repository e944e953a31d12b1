package cluster

import (
	"context"
	"errors"
	"testing"
	"time"

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

// TestFetchPassesOverWhoIsBehind fetches a blob that is whole, of which the leader of
// its group has applied a part.
func TestFetchPassesOverWhoIsBehind(t *testing.T) {
	nodes := startCluster(t, 3, nil)
	body := noise(5, 3*blobstore.ChunkBytesMax+7)
	id := mustUpload(t, nodes[0], "item", body)
	var leader, reader *testNode
	for _, n := range nodes {
		eventually(t, "here", func() error {
			info, err := n.blobs.Stat(t.Context(), id)
			if err == nil && !info.Sealed {
				err = errBehind
			}
			return err
		})
		if (shelf{n.Node}).leads(id) {
			leader = n
		} else {
			reader = n
		}
	}
	info, err := reader.blobs.Stat(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	remove := blobstore.Op{Kind: blobstore.OpRemove, ID: id}
	begin := blobstore.Op{Kind: blobstore.OpBegin, ID: id}
	first := blobstore.Op{Kind: blobstore.OpAppend, ID: id, Data: body[:blobstore.ChunkBytesMax]}
	err = errors.Join(errors.Join(leader.blobs.Apply([]blobstore.Op{remove, begin, first})...),
		errors.Join(reader.blobs.Apply([]blobstore.Op{remove})...))
	if err != nil {
		t.Fatal(err)
	}
	if err := reader.pullBlob(t.Context(), info); err != nil {
		t.Fatal(err)
	}
	have, err := reader.blobs.Stat(t.Context(), id)
	if err != nil || !have.Sealed || have.Totals != info.Totals {
		t.Errorf("fetched %+v, %v; want %+v", have, err, info)
	}
	if err := hasPrefix(reader, id, body); err != nil {
		t.Error(err)
	}
}

// TestFetchSmall fetches blobs of at most a chunk, uploads and recordings: each
// is one commit, and what was fetched is what was sealed.
func TestFetchSmall(t *testing.T) {
	nodes := startCluster(t, 3, nil)
	n := nodes[2]
	for _, size := range []int{0, 1, blobstore.LivePieceBytesMax + 1, blobstore.ChunkBytesMax} {
		for _, live := range []bool{false, true} {
			body, id := noise(uint64(size), size), blobstore.NewID()
			w, spec := nodes[0].Writer(), blobstore.Spec{Live: live, Created: time.UnixMilli(77).UTC()}
			err := w.Begin(t.Context(), id, spec)
			for off := 0; off < size && err == nil; off += blobstore.LivePieceBytesMax {
				step := body[off:min(off+blobstore.LivePieceBytesMax, size)]
				if !live {
					step = body
				}
				err = w.Append(t.Context(), id, int64(off), step)
				if !live {
					break
				}
			}
			if err = errors.Join(err, w.Seal(t.Context(), id, blobstore.TotalsOf(body))); err != nil {
				t.Fatal(err)
			}
			for _, from := range nodes { // any of them may be asked
				eventually(t, "sealed", func() error {
					info, err := from.blobs.Stat(t.Context(), id)
					if err == nil && !info.Sealed {
						err = errBehind
					}
					return err
				})
			}
			want, err := n.blobs.Stat(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if err := n.applyHere(blobstore.Op{Kind: blobstore.OpRemove, ID: id}); err != nil {
				t.Fatal(err)
			}
			if err := n.pullBlob(t.Context(), want); err != nil {
				t.Fatalf("%d bytes, live %v: %v", size, live, err)
			}
			if have, err := n.blobs.Stat(t.Context(), id); err != nil || have != want {
				t.Errorf("%d bytes, live %v: fetched %+v, %v; want %+v", size, live, have, err, want)
			}
			if check := n.blobs.CheckReplica(t.Context(), id); check.State != blobstore.ReplicaOK {
				t.Errorf("%d bytes, live %v: the copy is %+v", size, live, check)
			}
		}
	}
	if taken := len(n.pieces); taken != 0 {
		t.Errorf("%d places are still taken", taken)
	}
}
