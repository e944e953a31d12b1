package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"carillon/blobstore"
	"carillon/cluster/placement"
	"carillon/cluster/readcache"
	"carillon/cluster/wire"
)

// remote is a view of a blob on another node. When that node fails in the
// middle it goes on with another replica.
type remote struct {
	n    *Node
	id   blobstore.ID
	node string // the replica in use; changed by Read and Wait only
	keep bool   // what is read of a sealed blob goes into the read cache
	// patience bounds one read; 0: readWait.
	patience time.Duration

	mu   sync.Mutex
	info blobstore.Info  // guarded by mu
	done context.Context //nolint:containedctx // ends with Close, which may come while Wait blocks
	stop context.CancelFunc
}

var _ blobstore.View = (*remote)(nil)

// openWait bounds how long a read waits for somebody to know better, while no
// replica has the blob and its leader cannot be asked: the time of an election
// and the commits after it. Then it is ErrUnavailable; a caller is on the line.
const openWait = 2 * time.Second

// A node that hangs, as a stopped process does, must not cost the listener more
// than this before another replica is asked: statWait for where the blob is,
// readWait for its bytes. A slow link brings 256 KiB in two seconds at 1 Mbit/s.
const (
	statWait = 700 * time.Millisecond
	readWait = 2 * time.Second
)

// openRemote finds a replica that has the blob, the shard's leader first.
// Only the leader can say that there is none: after the loss of a leader the
// others may hold an acknowledged blob in their logs and not have applied it.
func openRemote(ctx context.Context, n *Node, id blobstore.ID, except []string) (*remote, error) {
	return openRemoteUnless(ctx, n, id, except, func() bool { return false })
}

// openRemoteUnless is openRemote for a caller who need not wait for others any more
// when unless says so: errLeads.
func openRemoteUnless(
	ctx context.Context, n *Node, id blobstore.ID, except []string, unless func() bool,
) (*remote, error) {
	ctx, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	if err := n.waitFormed(ctx); err != nil {
		return nil, err
	}
	name := placement.BlobGroup(shardOf(id, n.charter.Shards))
	for try := 0; ; try++ {
		if n.group(name) == nil && (try > 0 || n.knownLeader(name) == "") {
			n.locate(ctx, name) // its members may have changed
		}
		r, err := n.openRemoteOnce(ctx, id, except)
		if err == nil || errors.Is(err, blobstore.ErrNotFound) {
			return r, err
		}
		if unless() {
			return nil, fmt.Errorf("blob %s: %w: %w", id, blobstore.ErrUnavailable, errLeads)
		}
		if !pause(ctx, retryWait(try)) {
			return nil, fmt.Errorf("blob %s: %w: %w", id, blobstore.ErrUnavailable, err)
		}
	}
}

func (n *Node) openRemoteOnce(ctx context.Context, id blobstore.ID, except []string) (*remote, error) {
	name := placement.BlobGroup(shardOf(id, n.charter.Shards))
	failed := errBehind
	lead := n.knownLeader(name)
	var open []string // in this zone, and not sealed there
	candidates := n.byPreference(name, n.members(name))
	for i := 0; i < len(candidates); i++ {
		node := candidates[i]
		if node == n.id || slices.Contains(except, node) {
			continue
		}
		info, err := n.remoteInfo(ctx, statWait, node, kindStat, id[:])
		switch {
		case err == nil && !info.Sealed && n.distance(node, lead) == inZone && !slices.Contains(open, node):
			open = append(open, node)
			candidates = append(candidates, node) // if nobody knows better
		case err == nil:
			return newRemote(n, id, node, info), nil
		case errors.Is(err, blobstore.ErrNotFound):
			return nil, fmt.Errorf("blob %s: %w", id, blobstore.ErrNotFound)
		case !errors.Is(err, errBehind):
			failed = errors.Join(failed, err)
		}
	}
	return nil, failed
}

func newRemote(n *Node, id blobstore.ID, node string, info blobstore.Info) *remote {
	n.metrics.remote.Inc()
	r := &remote{n: n, id: id, node: node, info: info}
	r.done, r.stop = context.WithCancel(n.ctx)
	return r
}

// byPreference orders the members of a group for a read: those of this node's
// zone first, whose word is taken for blobs that are sealed only, then the
// leader, which has applied all that was acknowledged, then the others, and those
// that are away last.
func (n *Node) byPreference(name string, members []string) []string {
	lead := n.knownLeader(name)
	out := slices.Clone(members)
	slices.SortStableFunc(out, func(a, b string) int {
		return cmp.Compare(n.distance(a, lead), n.distance(b, lead))
	})
	return out
}

// The distances of replicas, the nearest first.
const (
	inZone = iota
	leading
	further
	away
)

func (n *Node) distance(id, lead string) int {
	m, ok := n.gossip.Member(id)
	switch {
	case n.cfg.Zone != "" && m.Alive && m.Zone == n.cfg.Zone && id != lead:
		return inZone
	case id == lead:
		return leading
	case ok && m.Alive:
		return further
	}
	return away
}

func (n *Node) remoteInfo(
	ctx context.Context, wait time.Duration, node string, kind byte, req ...[]byte,
) (blobstore.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	b, err := n.link.Call(ctx, node, kind, req...)
	if err != nil {
		return blobstore.Info{}, err //nolint:wrapcheck // sentinels of blobstore or peer
	}
	d := wire.NewDecoder(b)
	info := d.Info()
	return info, d.End()
}

// Info is the blob as last seen.
func (r *remote) Info() blobstore.Info {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.info
}

// saw keeps the newest Info.
func (r *remote) saw(i blobstore.Info) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i.Size >= r.info.Size || i.Sealed {
		r.info = i
	}
}

// Read fetches bytes, from another replica if the one in use fails.
func (r *remote) Read(ctx context.Context, off int64, p []byte) (int, error) {
	info := r.Info()
	switch {
	case off >= info.Size:
		return 0, io.EOF
	case !r.keep || !info.Sealed || !r.n.cache.Keeps():
		return r.readAt(ctx, off, p)
	}
	start := off - off%blobstore.ChunkBytesMax
	key := readcache.Key{Blob: r.id, Index: start / blobstore.ChunkBytesMax}
	chunk, err := r.n.cache.Load(ctx, key, func() ([]byte, error) {
		return r.readChunk(ctx, start, min(blobstore.ChunkBytesMax, info.Size-start))
	})
	if err != nil {
		return 0, err
	}
	return copy(p, chunk[off-start:]), nil
}

// readChunk fetches size bytes at off, nearly always in one answer, which is
// handed on as it came.
func (r *remote) readChunk(ctx context.Context, off, size int64) ([]byte, error) {
	p, err := r.ask(ctx, off, size)
	for err == nil && int64(len(p)) < size {
		var more []byte
		more, err = r.ask(ctx, off+int64(len(p)), size-int64(len(p)))
		p = append(p, more...)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (r *remote) readAt(ctx context.Context, off int64, p []byte) (int, error) {
	b, err := r.ask(ctx, off, int64(len(p)))
	return copy(p, b), err
}

// ask fetches at most size bytes at off, and one at least.
func (r *remote) ask(ctx context.Context, off, size int64) (b []byte, err error) {
	req := wire.AppendInt(wire.AppendInt(append([]byte(nil), r.id[:]...), off), min(size, readBytesMax))
	err = r.anywhere(ctx, func() (err error) {
		bounded, cancel := context.WithTimeout(ctx, cmp.Or(r.patience, readWait))
		defer cancel()
		b, err = r.n.link.Call(bounded, r.node, kindRead, req)
		switch {
		case err == nil && len(b) == 0:
			err = fmt.Errorf("replica %s is shorter: %w", r.node, blobstore.ErrUnavailable)
		case err == nil && int64(len(b)) > size:
			err = fmt.Errorf("replica %s sends more than was asked for: %w", r.node, blobstore.ErrUnavailable)
		}
		return err //nolint:wrapcheck // sentinels of blobstore or peer
	})
	return b, err
}

// Wait asks again and again until there is more.
func (r *remote) Wait(ctx context.Context, size int64) (blobstore.Info, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(r.done, cancel) //nolint:contextcheck // the view's end, not the call's
	defer stop()
	req := wire.AppendInt(append([]byte(nil), r.id[:]...), size)
	for {
		if info := r.Info(); info.Size > size || info.Sealed {
			return info, nil
		}
		err := r.anywhere(ctx, func() error {
			info, err := r.n.remoteInfo(ctx, waitMax+readWait, r.node, kindWait, req)
			if err == nil {
				r.saw(info)
			}
			return err
		})
		if err != nil {
			return blobstore.Info{}, err
		}
	}
}

// replicasTried is on how many replicas one read is tried, the one in use
// included: a view that was open fails only when that many fail in a row.
const replicasTried = 4

// anywhere runs a call on the replica in use and, if that fails, on others. A
// view that was open does not become "not found" because one replica is behind.
func (r *remote) anywhere(ctx context.Context, call func() error) error {
	err := call()
	failed := []string{r.node}
	for err != nil && ctx.Err() == nil && len(failed) < replicasTried {
		other, oerr := openRemote(ctx, r.n, r.id, failed)
		if oerr != nil {
			return errors.Join(err, oerr)
		}
		r.n.log.Info("reading on from another replica", "blob", r.id.String(), "peer", other.node, "error", err)
		r.node = other.node
		r.saw(other.Info())
		other.stop()
		if err = call(); err != nil {
			failed = append(failed, r.node)
		}
	}
	return orContext(ctx, err)
}

func orContext(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err() //nolint:wrapcheck // the contract of View
	}
	return err
}

// Buffers are those that a Reader of the view takes its own from.
func (r *remote) Buffers() *blobstore.Buffers { return r.n.blobs.Buffers() }

// Close ends a Wait.
func (r *remote) Close() error {
	r.stop()
	return nil
}
