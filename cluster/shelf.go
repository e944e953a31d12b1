package cluster

import (
	"context"
	"errors"
	"sync"

	"carillon/blobstore"
)

// shelf implements blobstore.Shelf for every blob of the cluster: what this
// node holds is read here, the rest from a replica over the peer link.
type shelf struct{ n *Node }

var _ blobstore.Shelf = shelf{}

// viewTries is how often a blob is looked for while the leadership of its group
// comes to this node in the midst of that: once, nearly always twice if so.
const viewTries = 3

// Open opens a blob wherever it is.
func (s shelf) Open(ctx context.Context, id blobstore.ID) (*blobstore.Reader, error) {
	v, err := s.view(ctx, id)
	if err != nil {
		return nil, err
	}
	return blobstore.NewReader(ctx, v), nil
}

// Stat describes a blob wherever it is.
func (s shelf) Stat(ctx context.Context, id blobstore.ID) (blobstore.Info, error) {
	v, err := s.view(ctx, id)
	if err != nil {
		return blobstore.Info{}, err
	}
	return v.Info(), v.Close() //nolint:wrapcheck // in the words of blobstore
}

// view is the local view of a blob if it is whole or growing here and this
// node has applied its own changes of it, else that of a replica, the leader
// first: it has applied all that was acknowledged.
func (s shelf) view(ctx context.Context, id blobstore.ID) (blobstore.View, error) {
	for try := 1; ; try++ {
		v, err := s.viewOnce(ctx, id)
		if try == viewTries || !errors.Is(err, errLeads) {
			return v, err
		}
	}
}

func (s shelf) viewOnce(ctx context.Context, id blobstore.ID) (blobstore.View, error) {
	leads := s.leads(id) // before looking: this node may become the leader meanwhile
	here, err := s.n.blobs.View(ctx, id)
	if leads && errors.Is(err, blobstore.ErrNotFound) {
		if err = s.n.settle(ctx); err == nil {
			here, err = s.n.blobs.View(ctx, id)
		}
	}
	switch {
	case err == nil && (leads || s.current(id, here.Info())):
		return &steady{n: s.n, View: here, id: id}, nil
	case errors.Is(err, blobstore.ErrNotFound) && leads && s.n.gone(ctx, id):
		return nil, err //nolint:wrapcheck // in the words of blobstore
	case err != nil && !errors.Is(err, blobstore.ErrNotFound):
		s.n.log.Warn("blob not readable here", "blob", id.String(), "error", err)
	}
	return s.elsewhere(ctx, id, here, leads)
}

// elsewhere is the view of a replica, and what is here only if no replica knows
// better. It takes over here, which may be nil. The others wait for the leader, too:
// where that is this node, which did not lead when it looked, it is to look again.
func (s shelf) elsewhere(
	ctx context.Context, id blobstore.ID, here blobstore.View, led bool,
) (blobstore.View, error) {
	there, rerr := openRemoteUnless(ctx, s.n, id, nil, func() bool { return !led && s.leads(id) })
	if rerr == nil {
		there.keep = true
	}
	switch {
	case rerr == nil && here == nil:
		return there, nil
	case rerr == nil:
		return there, here.Close() //nolint:wrapcheck // in the words of blobstore
	case here == nil:
		return nil, rerr
	case errors.Is(rerr, blobstore.ErrNotFound):
		return nil, errors.Join(rerr, here.Close()) // the leader knows: removed, and not yet here
	}
	return &steady{n: s.n, View: here, id: id}, nil
}

// settle returns when this node has stored what the catalog's entries carried so
// far: a shard's leader may say that there is no such blob only after that.
func (n *Node) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, statWait)
	defer cancel()
	return catalog{n}.Fresh(ctx)
}

// current says whether a follower's copy of a blob may be read as it is: it has
// applied all it knows of and the blob is whole or live. An upload that is open
// here may be whole at the leader.
func (s shelf) current(id blobstore.ID, here blobstore.Info) bool {
	g := s.group(id)
	return (here.Sealed || here.Spec.Live && g != nil && g.whole.Load()) && s.applied(id)
}

// leads says whether this node leads the blob's shard.
func (s shelf) leads(id blobstore.ID) bool {
	g := s.group(id)
	return g != nil && g.leads() && s.n.mayLead(g.name)
}

// applied says whether this node has applied its own changes of the blob.
func (s shelf) applied(id blobstore.ID) bool {
	g := s.group(id)
	return g != nil && !s.n.ahead[shardOf(id, s.n.charter.Shards)].of(g, id)
}

// group is this node's membership in the blob's group, nil if it has none.
func (s shelf) group(id blobstore.ID) *group {
	if !s.n.isFormed() {
		return nil
	}
	return s.n.shard(shardOf(id, s.n.charter.Shards))
}

// steady is a local view that goes on from a replica when this node's copy
// turns out to be bad in the middle, without the reader noticing.
type steady struct {
	n  *Node
	id blobstore.ID

	mu sync.Mutex // guards View: it is changed by Read, while Close may come
	blobstore.View
}

func (s *steady) current() blobstore.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.View
}

// Info is the blob as last seen.
func (s *steady) Info() blobstore.Info { return s.current().Info() }

// Wait waits for more.
func (s *steady) Wait(ctx context.Context, size int64) (blobstore.Info, error) {
	return s.current().Wait(ctx, size) //nolint:wrapcheck // a view around a view
}

// Buffers are those that a Reader of the view takes its own from.
func (s *steady) Buffers() *blobstore.Buffers { return s.n.blobs.Buffers() }

// Close closes the view in use.
func (s *steady) Close() error { return s.current().Close() } //nolint:wrapcheck // a view around a view

// Read reads here, and elsewhere from the first corrupt block on.
func (s *steady) Read(ctx context.Context, off int64, p []byte) (int, error) {
	k, err := s.current().Read(ctx, off, p)
	switch {
	case errors.Is(err, blobstore.ErrCorrupt):
		s.n.metrics.corrupt.Inc()
		s.n.repair.add(s.id)
		s.n.log.Error("corrupt block; reading on from a replica", "blob", s.id.String(), "offset", off)
	case errors.Is(err, blobstore.ErrNotFound): // this node has left the group
	default:
		return k, err //nolint:wrapcheck // a view around a view
	}
	remote, rerr := openRemote(ctx, s.n, s.id, nil)
	if rerr != nil {
		return k, errors.Join(err, rerr)
	}
	remote.keep = true
	s.mu.Lock()
	bad := s.View
	s.View = remote
	s.mu.Unlock()
	if err := bad.Close(); err != nil {
		s.n.log.Warn("view not closed", "error", err)
	}
	if remote.Info().Size <= off { // that replica is behind; for it this would be the end
		if _, err := remote.Wait(ctx, off); err != nil {
			return k, err
		}
	}
	return remote.Read(ctx, off, p)
}
