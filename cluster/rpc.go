package cluster

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"carillon/blobstore"
	"carillon/cluster/peer"
	"carillon/cluster/placement"
	"carillon/cluster/wire"
)

// Requests between nodes. Numbers are part of the peer protocol: never reuse
// one.
const (
	kindPropose  byte = 1  // group, command → position, outcomes
	kindCharter  byte = 2  // → charter as JSON
	kindPromise  byte = 3  // the caller asks this node to found with it
	kindProgress byte = 4  // → how far the catalog's leader has applied
	kindStat     byte = 5  // blob → Info
	kindRead     byte = 6  // blob, offset, length → bytes
	kindWait     byte = 7  // blob, size → Info once it is longer or sealed
	kindStatus   byte = 8  // → NodeStatus as JSON
	kindRaft     byte = 9  // group, raft message → raft's answer
	kindAhead    byte = 10 // blob → chunks of an open upload beyond a gap
	kindChunk    byte = 11 // blob, offset → that chunk
	kindSet      byte = 40 // position → SetStatus as JSON
	kindHash     byte = 41 // group, blob → ReplicaCheck as JSON
	kindGroup    byte = 31 // group, flag → groupView as JSON
	kindHost     byte = 32 // group → nothing, once this node has opened it
	kindStanding byte = 33 // node → its state as this node knows it
	kindWhole    byte = 34 // group → nothing, once this node has everything of it
	kindWitness  byte = 50 // group, flag → GroupWitness as JSON
	kindRefused  byte = 30 // node → whether it refuses connections, and last positions
)

const (
	// readBytesMax bounds the bytes of one kindRead: four chunks, since what a
	// node that catches up pays for a call and its wake-ups it pays for each.
	readBytesMax = 4 * blobstore.ChunkBytesMax
	// waitMax bounds how long a kindWait is held before it answers with the
	// blob as it is; the caller asks again.
	waitMax = 20 * time.Second
)

// serve registers what other nodes may ask of this one.
func (n *Node) serve() {
	sentinels := make(map[byte]error, len(codes()))
	for c, err := range codes() {
		sentinels[byte(c)] = err
	}
	n.link.Errors(sentinels)
	n.link.Handle(kindPropose, n.guarded(n.servePropose))
	n.link.Handle(kindCharter, n.serveCharter) // who was left behind must hear of it
	n.link.Handle(kindPromise, n.guarded(n.servePromise))
	n.link.Handle(kindProgress, n.guarded(n.serveProgress))
	n.link.Handle(kindStat, n.guarded(n.serveStat))
	n.link.HandleLent(kindRead, n.guardedLent(n.serveRead))
	n.link.Handle(kindWait, n.guarded(n.serveWait))
	n.link.Handle(kindStatus, n.guarded(n.serveStatus))
	n.link.Handle(kindRaft, n.guarded(n.raft.Serve))
	n.link.Handle(kindAhead, n.guarded(n.serveAhead))
	n.link.Handle(kindChunk, n.guarded(n.serveChunk))
	n.link.Handle(kindSet, n.guarded(n.serveSet))
	n.link.Handle(kindHash, n.guarded(n.serveHash))
	n.link.Handle(kindGroup, n.guarded(n.serveGroup))
	n.link.Handle(kindHost, n.guarded(n.serveHost))
	n.link.Handle(kindStanding, n.serveStanding) // who was given up must hear of it
	n.link.Handle(kindWitness, n.guarded(n.serveWitness))
	n.link.Handle(kindWhole, n.guarded(n.serveWhole))
	n.link.Handle(kindRefused, n.guarded(n.serveRefused))
}

func (n *Node) serveCharter(context.Context, string, []byte) ([]byte, error) {
	if !n.isFormed() {
		return nil, fmt.Errorf("no charter yet: %w", blobstore.ErrNotFound)
	}
	if n.leftBehind.Load() { // nobody joins what a recovery has replaced
		return nil, fmt.Errorf("cluster %s: %w", n.charter.Cluster, ErrRecovered)
	}
	told := *n.charter
	told.LogFormat = n.writes()
	return json.Marshal(told) //nolint:wrapcheck // cannot fail
}

func (n *Node) servePromise(_ context.Context, from string, _ []byte) ([]byte, error) {
	if n.isFormed() {
		return nil, fmt.Errorf("member of %s already: %w", n.charter.Cluster, ErrForeignCluster)
	}
	return nil, n.promise.give(from, time.Now())
}

// servePropose runs a command that another node's client sent, if this node
// leads the group.
func (n *Node) servePropose(ctx context.Context, _ string, req []byte) ([]byte, error) {
	d := wire.NewDecoder(req)
	name := d.Text()
	cmd := d.Rest()
	if err := d.Err(); err != nil {
		return nil, err
	}
	g := n.group(name)
	if g == nil || !n.mayLead(name) {
		return nil, errNotLeader
	}
	// The request's bytes are only lent; the log keeps them. They are read
	// once before, since an entry that cannot be read would stop every member.
	cmd = append([]byte(nil), cmd...)
	if err := g.fsm.check(cmd); err != nil {
		return nil, err
	}
	index, outcome, err := g.propose(ctx, cmd)
	if err != nil {
		return nil, err
	}
	index, outcomes, err := outcomesOf(index, outcome)
	if err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(outcomes)), index)
	for _, c := range outcomes {
		b = append(b, byte(c))
	}
	return b, nil
}

// outcomesOf turns a state machine's response to the entry at index into codes:
// one for a catalog transaction, one per operation for blobs. A broken machine
// is an error. The position is that of the entry but for a transaction that was
// proposed twice, because nobody could tell what became of the first proposal:
// it has the position that its rows have.
func outcomesOf(index uint64, response any) (uint64, []code, error) {
	switch r := response.(type) {
	case blobstore.TxnResult:
		return r.Index, []code{codeOf(r.Err)}, nil
	case []error:
		out := make([]code, len(r))
		for i, err := range r {
			out[i] = codeOf(err)
		}
		return index, out, nil
	case error:
		return 0, nil, fmt.Errorf("%w: %w", blobstore.ErrUnavailable, r)
	}
	return 0, nil, fmt.Errorf("state machine answered %T: %w", response, wire.ErrMalformed)
}

// serveProgress says how far the catalog is. Only a leader that a majority
// still follows may say so.
func (n *Node) serveProgress(context.Context, string, []byte) ([]byte, error) {
	if !n.isFormed() {
		return nil, errNotLeader
	}
	if err := n.catalog.verifyLeads(); err != nil {
		return nil, err
	}
	return binary.BigEndian.AppendUint64(nil, n.rows.Applied()), nil
}

func (n *Node) serveStat(ctx context.Context, _ string, req []byte) ([]byte, error) {
	d := wire.NewDecoder(req)
	id := d.ID()
	if err := d.End(); err != nil {
		return nil, err
	}
	leads := shelf{n}.leads(id) // before looking: it may become the leader meanwhile
	info, err := n.blobs.Stat(ctx, id)
	if errors.Is(err, blobstore.ErrNotFound) {
		if !leads || n.settle(ctx) != nil {
			return nil, errBehind
		}
		info, err = n.blobs.Stat(ctx, id)
		if errors.Is(err, blobstore.ErrNotFound) && !n.gone(ctx, id) {
			return nil, errBehind
		}
	}
	if err != nil {
		return nil, err //nolint:wrapcheck // the sentinel crosses the link
	}
	return wire.AppendInfo(nil, info), nil
}

// serveRead answers with bytes of a blob as it is here: as many as were asked
// for, or those up to its end or to what cannot be read.
func (n *Node) serveRead(ctx context.Context, _ string, req []byte, loan *peer.Loan) ([]byte, error) {
	d := wire.NewDecoder(req)
	id, off, size := d.ID(), d.Size(), d.Size()
	if err := d.End(); err != nil {
		return nil, err
	}
	if size < 1 || size > readBytesMax {
		return nil, fmt.Errorf("read of %d bytes: %w", size, blobstore.ErrTooLarge)
	}
	v, err := n.blobs.View(ctx, id)
	if err != nil {
		return nil, err //nolint:wrapcheck // the sentinel crosses the link
	}
	want := int(min(size, max(v.Info().Size-off, 0)))
	if want == 0 {
		return nil, v.Close()
	}
	p, k := loan.Bytes(want), 0
	for k < want && err == nil { // a view reads within a chunk
		var got int
		got, err = v.Read(ctx, off+int64(k), p[k:])
		k += got
	}
	if errors.Is(err, blobstore.ErrCorrupt) {
		n.metrics.corrupt.Inc()
		n.repair.add(id)
	}
	if k > 0 {
		err = nil // the caller asks again for the rest
	}
	return p[:k], errors.Join(err, v.Close())
}

func (n *Node) serveWait(ctx context.Context, _ string, req []byte) ([]byte, error) {
	d := wire.NewDecoder(req)
	id, size := d.ID(), d.Size()
	if err := d.End(); err != nil {
		return nil, err
	}
	v, err := n.blobs.View(ctx, id)
	if err != nil {
		return nil, err //nolint:wrapcheck // the sentinel crosses the link
	}
	ctx, cancel := context.WithTimeout(ctx, waitMax)
	defer cancel()
	info, err := v.Wait(ctx, size)
	if errors.Is(err, context.DeadlineExceeded) {
		info, err = v.Info(), nil
	}
	if err = errors.Join(err, v.Close()); err != nil {
		return nil, err
	}
	return wire.AppendInfo(nil, info), nil
}

func (n *Node) serveAhead(ctx context.Context, _ string, req []byte) ([]byte, error) {
	d := wire.NewDecoder(req)
	id := d.ID()
	if err := d.End(); err != nil {
		return nil, err
	}
	extents, err := n.blobs.Ahead(ctx, id)
	if err != nil {
		return nil, err //nolint:wrapcheck // the sentinel crosses the link
	}
	var b []byte
	for _, e := range extents {
		b = wire.AppendInt(b, e.Offset)
	}
	return b, nil
}

func (n *Node) serveChunk(ctx context.Context, _ string, req []byte) ([]byte, error) {
	d := wire.NewDecoder(req)
	id, off := d.ID(), d.Size()
	if err := d.End(); err != nil {
		return nil, err
	}
	p := make([]byte, blobstore.ChunkBytesMax)
	k, err := n.blobs.ReadChunk(ctx, id, off, p)
	return p[:k], err //nolint:wrapcheck // the sentinel crosses the link
}

// group is this node's membership in a group, nil if it has none.
func (n *Node) group(name string) *group {
	if !n.isFormed() {
		return nil
	}
	if name == placement.CatalogGroup {
		return n.catalog
	}
	for _, g := range n.hosted() {
		if g.name == name {
			return g
		}
	}
	return nil
}

// unreachable says whether a call failed because the other node could not be
// reached or was starting, so that it may be tried again or elsewhere.
func unreachable(err error) bool {
	for _, e := range []error{
		peer.ErrUnreachable, peer.ErrNotSent, peer.ErrMaybeSent, peer.ErrRefused, peer.ErrNoHandler,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
