package cluster

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"time"

	"carillon/blobstore"
)

const (
	// repairsMax bounds the damaged blobs that wait; the next scrub finds what
	// did not fit.
	repairsMax = 10_000
	// repairAgain is the pause after a repair that no replica could help with.
	repairAgain = 30 * time.Second
	// repairRemoteMax is how often other replicas are asked for one chunk.
	repairRemoteMax = 3
)

// repair replaces the damaged chunks of this node's blobs from other replicas.
// What comes from elsewhere is believed only if the whole blob, with it, is what
// was sealed: size, SHA-256 and the root of its blocks are in the meta row of
// every replica. So a flipped bit on a minority never wins, and on a majority
// neither.
type repair struct {
	n    *Node
	wake chan struct{} // capacity 1

	mu       sync.Mutex
	waiting  map[blobstore.ID]struct{} // guarded by mu
	found    int64                     // guarded by mu
	repaired int64                     // guarded by mu
	why      string                    // the last failure, guarded by mu
}

func newRepair(n *Node) *repair {
	return &repair{n: n, wake: make(chan struct{}, 1), waiting: make(map[blobstore.ID]struct{})}
}

// add queues a blob that a read, a check or the scrub found damaged here.
func (r *repair) add(id blobstore.ID) {
	r.mu.Lock()
	if _, known := r.waiting[id]; !known && len(r.waiting) < repairsMax {
		r.waiting[id] = struct{}{}
		r.found++
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default: // it is awake
	}
}

func (r *repair) next() (blobstore.ID, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.waiting {
		return id, true
	}
	return blobstore.ID{}, false
}

func (r *repair) over(id blobstore.ID, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, id)
	if err == nil {
		r.repaired++
		r.why = ""
	}
}

func (r *repair) fault(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.why = err.Error()
}

func (r *repair) describe(s *ScrubStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Corrupt, s.Repaired, s.Waiting, s.Fault = r.found, r.repaired, len(r.waiting), r.why
}

// run repairs what waits; what cannot be repaired now is tried again.
func (r *repair) run() {
	again := time.NewTicker(repairAgain)
	defer again.Stop()
	for {
		select {
		case <-r.wake:
		case <-again.C:
		case <-r.n.ctx.Done():
			return
		}
		for id, ok := r.next(); ok && r.n.ctx.Err() == nil; id, ok = r.next() {
			if err := r.blob(r.n.ctx, id); err != nil {
				r.n.metrics.unrepaired.Inc()
				r.n.log.Error("damaged blob not repaired yet", "blob", id.String(), "error", err)
				r.fault(err)
				break
			}
		}
	}
}

// blob repairs one blob.
func (r *repair) blob(ctx context.Context, id blobstore.ID) error {
	bad, err := r.n.blobs.Scrub(ctx, id, func(context.Context, int) error { return nil })
	if errors.Is(err, blobstore.ErrNotFound) || err == nil && len(bad) == 0 {
		r.over(id, err)
		return nil
	}
	if err != nil {
		return err //nolint:wrapcheck // in the words of blobstore
	}
	info, err := r.n.blobs.Stat(ctx, id)
	if err != nil {
		return err //nolint:wrapcheck // as above
	}
	for range repairRemoteMax {
		if err = r.from(ctx, &info, bad); err == nil {
			r.over(id, nil)
			r.n.metrics.repaired.Add(float64(len(bad)))
			r.n.log.Warn("damaged blob repaired from a replica", "blob", id.String(), "chunks", len(bad))
			return nil
		}
	}
	return err
}

// from fetches the bad chunks from replicas, proves that they belong there, and
// writes them. It reads the blob twice instead of keeping it: first all of it,
// to hash it, then the bad chunks once more, to write what was hashed.
func (r *repair) from(ctx context.Context, info *blobstore.Info, bad []int64) error {
	there, err := openRemote(ctx, r.n, info.ID, nil)
	if err != nil {
		return err
	}
	defer there.stop()
	if t := there.Info(); t.Totals != info.Totals {
		return fmt.Errorf("replica has a blob of %d bytes with hash %s, not %d with %s: %w", t.Totals.Size,
			t.Totals.SHA256, info.Totals.Size, info.Totals.SHA256, blobstore.ErrConflict)
	}
	sums, err := r.prove(ctx, there, info, bad)
	if err != nil {
		return err
	}
	buf := make([]byte, blobstore.ChunkBytesMax)
	for i, off := range bad {
		p := buf[:min(blobstore.ChunkBytesMax, info.Size-off)]
		if err := readFull(ctx, there, off, p); err != nil {
			return err
		}
		if crc32.ChecksumIEEE(p) != sums[i] {
			return fmt.Errorf("chunk at %d came differently the second time: %w", off, blobstore.ErrCorrupt)
		}
		if err := r.n.blobs.Replace(ctx, info.ID, off, p); err != nil {
			return err //nolint:wrapcheck // in the words of blobstore
		}
	}
	return r.n.blobs.Sync() //nolint:wrapcheck // as above
}

// prove hashes the blob as it would be with the replica's chunks, and returns
// their checksums if that is what was sealed.
func (r *repair) prove(
	ctx context.Context, there *remote, info *blobstore.Info, bad []int64,
) ([]uint32, error) {
	sums := make([]uint32, 0, len(bad))
	whole, root := sha256.New(), blobstore.RootSum{}
	buf := make([]byte, blobstore.ChunkBytesMax)
	for off := int64(0); off < info.Size; off += blobstore.ChunkBytesMax {
		p := buf[:min(blobstore.ChunkBytesMax, info.Size-off)]
		var err error
		if len(sums) < len(bad) && bad[len(sums)] == off {
			if err = readFull(ctx, there, off, p); err == nil {
				sums = append(sums, crc32.ChecksumIEEE(p))
			}
		} else {
			err = r.n.blobs.ReadSealed(ctx, *info, off, p)
		}
		if err != nil {
			return nil, fmt.Errorf("chunk at %d: %w", off, err)
		}
		_, _ = whole.Write(p) // hashes never fail
		_, _ = root.Write(p)
	}
	if blobstore.Digest(whole.Sum(nil)) != info.Totals.SHA256 || root.Sum32() != info.Totals.Root {
		return nil, fmt.Errorf("replica %s has other bytes than were sealed: %w", there.node, blobstore.ErrCorrupt)
	}
	return sums, nil
}

// readFull fills p from a replica.
func readFull(ctx context.Context, v blobstore.View, off int64, p []byte) error {
	for n := 0; n < len(p); {
		k, err := v.Read(ctx, off+int64(n), p[n:])
		if err != nil {
			return err //nolint:wrapcheck // in the words of blobstore
		}
		n += k
	}
	return nil
}
