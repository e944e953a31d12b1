package raftnet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"carillon/blobstore"
	"carillon/cluster/peer"
	"carillon/cluster/wire"
)

// errMute is returned where a member does not vote, having lost its log.
var errMute = errors.New("this member has lost its log and does not vote yet")

const (
	// raftRPCWait bounds one raft message. 4 MiB of entries in 10 s need
	// 3.4 Mbit/s, less than any link that telephony runs over.
	raftRPCWait = 10 * time.Second
	// appendBytesMax bounds the entries of one message; a longer AppendEntries
	// of raft, which counts entries, is sent as several. A frame of the link
	// must hold it with its heads and one more command.
	appendBytesMax = 2 << 20
	// reachWait is the time between two tries to reach a member that is away.
	reachWait = 200 * time.Millisecond
)

// The raft messages, numbered for the wire: never reuse one.
const (
	raftAppend  byte = 1
	raftVote    byte = 2
	raftPreVote byte = 3
	raftTimeout byte = 4
)

// Transports finds the transport of a group for messages that arrive.
type Transports struct {
	kind  byte                // of the link's calls with raft messages
	hears func(net.Conn) bool // whether a stream is from a node that has a say here
	m     sync.Map            // group name → *Transport
}

// NewTransports is given the kind of the link's calls with raft messages, which
// [Transports.Serve] is to handle, and who says whether the node at the end of a stream may
// send snapshots.
func NewTransports(kind byte, hears func(net.Conn) bool) *Transports {
	return &Transports{kind: kind, hears: hears}
}

// Serve is the link's handler for the raft messages of all groups.
func (t *Transports) Serve(ctx context.Context, _ string, req []byte) ([]byte, error) {
	d := wire.NewDecoder(req)
	name, kind := d.Text(), d.Take(1)[0]
	if err := d.Err(); err != nil {
		return nil, err
	}
	v, ok := t.m.Load(name)
	if !ok {
		return nil, fmt.Errorf("group %s: %w", name, blobstore.ErrNotFound)
	}
	tr, _ := v.(*Transport)
	return tr.receive(ctx, kind, d)
}

// Transport carries one group's raft messages over the peer link. Raft's
// addresses are node ids: where a node is, the link asks gossip at each dial,
// so a node may come back with any address.
//
// It stands in for raft's own network transport, with which it differs where
// hashicorp/raft has faults:
//
// It has no heartbeat fast path (SetHeartbeatHandler does nothing), so that
// heartbeats pass through raft's main loop like everything else: on the fast
// path they change the term under a leader that is writing, and two nodes may
// commit different entries (hashicorp/raft#695). The price is that a heartbeat
// waits for the disk write before it, which the election timeout allows for.
//
// It does not pipeline: after a stall on a follower raft's pipeline may stop
// for good (hashicorp/raft#612). Entries that arrive while one message is on
// its way go together in the next, with one fsync.
//
// It bounds a message in bytes, and writes entries as they are, without
// reflection and without copying them.
type Transport struct {
	link *peer.Link
	all  *Transports
	log  *slog.Logger

	cfg       Config
	muted     atomic.Bool // it neither votes nor stands for election
	consumer  chan raft.RPC
	snapshots net.Listener
	hints     *hints
	beat      beat
	ctx       context.Context //nolint:containedctx // ends messages on their way when the transport closes
	cancel    context.CancelFunc
	closed    chan struct{}
	closeOnce sync.Once
	wg        sync.WaitGroup
}

var (
	_ raft.Transport   = (*Transport)(nil)
	_ raft.WithPreVote = (*Transport)(nil)
	_ raft.WithClose   = (*Transport)(nil)
)

// Config of one group's transport.
type Config struct {
	ID, Group    string
	ElectionWait time.Duration // raft's; heartbeats go out at multiples of a fifth of it
	Mute         bool          // it neither votes nor stands for election, see SetMuted
	// Stalled is why this node says nothing as leader now; nil: never.
	Stalled func() error
	// Declines is why it does not take leadership that is handed to it; nil: never.
	Declines func() error
	// Mend changes an AppendEntries for raft, see raftlog/emptied.go; nil: nothing.
	Mend func(*raft.AppendEntriesRequest)
	// Log is what raft may be ahead of, see raftlog/flush.go; nil: of nothing.
	Log Log
}

// Log is a log of which raft may hold entries that are not on the disk yet.
type Log interface {
	// SyncedTo is the position that is on the disk, of the one that is asked for.
	SyncedTo(index uint64) uint64
	// Synced waits until a position is on the disk.
	Synced(ctx context.Context, index uint64) error
}

// Open takes messages from now on.
func Open(cfg Config, link *peer.Link, all *Transports, log *slog.Logger) *Transport {
	t := &Transport{
		cfg: cfg, link: link, all: all, log: log,
		consumer: make(chan raft.RPC), closed: make(chan struct{}),
		snapshots: link.Listener(snapshotStream(cfg.Group)),
	}
	t.muted.Store(cfg.Mute)
	t.beat = beat{every: cfg.ElectionWait / beatsPerElection, closed: t.closed}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.hints = newHints(t.hint)
	t.all.m.Store(cfg.Group, t)
	t.wg.Go(t.acceptSnapshots)
	return t
}

// Start is given who may say whether this node leads, once raft runs.
func (t *Transport) Start(leads func() bool) { t.hints.start(leads) }

// SetMuted says whether this member votes and stands for election.
func (t *Transport) SetMuted(mute bool) { t.muted.Store(mute) }

// IsMuted says whether it does not.
func (t *Transport) IsMuted() bool { return t.muted.Load() }

// Acked is the newest entry that a follower has acknowledged, 0 if unknown.
func (t *Transport) Acked(id raft.ServerID) uint64 { return t.hints.acked(id) }

// Advance notes that this node has applied a position, so that followers hear of it.
func (t *Transport) Advance(index uint64) { t.hints.advance(index) }

// Hurry lets heartbeats go at once until done is called: a reader waits to hear
// that this node leads still.
func (t *Transport) Hurry() (done func()) { return t.beat.ask() }

func snapshotStream(group string) string { return "snapshot/" + group }

// Close stops taking messages and waits for snapshots that are arriving.
func (t *Transport) Close() error {
	var err error
	t.closeOnce.Do(func() {
		t.all.m.CompareAndDelete(t.cfg.Group, t)
		close(t.closed)
		t.cancel()
		t.hints.close()
		err = t.snapshots.Close()
		t.wg.Wait()
	})
	return err //nolint:wrapcheck // the caller says of which group
}

// Consumer yields the messages of other members.
func (t *Transport) Consumer() <-chan raft.RPC { return t.consumer }

// LocalAddr is this node's id.
func (t *Transport) LocalAddr() raft.ServerAddress { return raft.ServerAddress(t.cfg.ID) }

// EncodePeer and DecodePeer are the id as it is.
func (t *Transport) EncodePeer(id raft.ServerID, _ raft.ServerAddress) []byte { return []byte(id) }

// DecodePeer reads what EncodePeer wrote.
func (t *Transport) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// SetHeartbeatHandler ignores raft's fast path, see [Transport].
func (t *Transport) SetHeartbeatHandler(func(raft.RPC)) {}

// AppendEntriesPipeline refuses, see [Transport].
func (t *Transport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// AppendEntries sends entries, in several messages if they are many bytes. It
// does not fail at once when the member is away but tries again for raftRPCWait:
// raft doubles its pause with each failure up to ten seconds, and a member that
// is back would wait for that before it hears anything.
func (t *Transport) AppendEntries(
	id raft.ServerID, _ raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse,
) error {
	if err := t.stalled(); err != nil {
		return err
	}
	if isHeartbeat(args) {
		t.beat.wait()
	}
	part := *args
	if t.cfg.Log != nil {
		part.LeaderCommitIndex = t.cfg.Log.SyncedTo(args.LeaderCommitIndex)
	}
	for rest := args.Entries; ; {
		part.Entries, rest = cutEntries(rest)
		answer := func(d *wire.Decoder) { appendResponse(d, resp) }
		if err := t.callWhenBack(id, raftAppend, encodeAppend(&part), answer); err != nil {
			return err
		}
		if resp.Success {
			t.hints.acknowledged(id, &part)
		}
		if !resp.Success || len(rest) == 0 {
			return nil
		}
		last := part.Entries[len(part.Entries)-1]
		part.PrevLogEntry, part.PrevLogTerm = last.Index, last.Term
	}
}

// hint sends an AppendEntries that is not raft's own, see [hints].
func (t *Transport) hint(
	id raft.ServerID, r *raft.AppendEntriesRequest,
) (*raft.AppendEntriesResponse, error) {
	var resp raft.AppendEntriesResponse
	if err := t.stalled(); err != nil {
		return &resp, err
	}
	err := t.call(id, raftAppend, encodeAppend(r), func(d *wire.Decoder) { appendResponse(d, &resp) })
	return &resp, err
}

func (t *Transport) stalled() error {
	if t.cfg.Stalled == nil {
		return nil
	}
	return t.cfg.Stalled()
}

// cutEntries splits off as many entries as one message may hold, at least one.
func cutEntries(all []*raft.Log) (now, rest []*raft.Log) {
	size := 0
	for i, l := range all {
		if size += len(l.Data); size > appendBytesMax && i > 0 {
			return all[:i], all[i:]
		}
	}
	return all, nil
}

// RequestVote asks for a vote.
func (t *Transport) RequestVote(
	id raft.ServerID, _ raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse,
) error {
	if t.muted.Load() {
		return errMute
	}
	return t.call(id, raftVote, [][]byte{encodeVote(args)}, func(d *wire.Decoder) { voteResponse(d, resp) })
}

// RequestPreVote asks whether a vote would be given.
func (t *Transport) RequestPreVote(
	id raft.ServerID, _ raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse,
) error {
	if t.muted.Load() {
		return errMute
	}
	return t.call(id, raftPreVote, [][]byte{encodePreVote(args)}, func(d *wire.Decoder) {
		preVoteResponse(d, resp)
	})
}

// TimeoutNow makes the target stand for election at once.
func (t *Transport) TimeoutNow(
	id raft.ServerID, _ raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse,
) error {
	return t.call(id, raftTimeout, [][]byte{appendHeader(nil, args.RPCHeader)}, func(d *wire.Decoder) {
		resp.RPCHeader = header(d)
	})
}

// callWhenBack is call, again and again while the member cannot be reached.
func (t *Transport) callWhenBack(
	id raft.ServerID, kind byte, body [][]byte, answer func(*wire.Decoder),
) error {
	begun := time.Now()
	for {
		err := t.call(id, kind, body, answer)
		if err == nil || !errors.Is(err, peer.ErrNotSent) || time.Since(begun) > raftRPCWait ||
			!t.hints.leading() {
			return err
		}
		select {
		case <-time.After(reachWait):
		case <-t.ctx.Done():
			return err
		}
	}
}

// call sends one message and reads the answer.
func (t *Transport) call(id raft.ServerID, kind byte, body [][]byte, answer func(*wire.Decoder)) error {
	ctx, cancel := context.WithTimeout(t.ctx, raftRPCWait)
	defer cancel()
	head := append(wire.AppendText(make([]byte, 0, 32), t.cfg.Group), kind)
	b, err := t.link.Call(ctx, string(id), t.all.kind, append([][]byte{head}, body...)...)
	if err != nil {
		return err //nolint:wrapcheck // raft logs it with the peer
	}
	d := wire.NewDecoder(b)
	answer(d)
	return d.End()
}

// refuses says why a message is not for this member now.
func (t *Transport) refuses(kind byte) error {
	switch {
	case t.muted.Load() && kind != raftAppend:
		return errMute
	case kind == raftTimeout && t.cfg.Declines != nil:
		return t.cfg.Declines()
	}
	return nil
}

// receive hands a message to raft's main loop and waits for its answer.
func (t *Transport) receive(ctx context.Context, kind byte, d *wire.Decoder) ([]byte, error) {
	var command any
	switch kind {
	case raftAppend:
		r := appendRequest(d)
		if t.cfg.Mend != nil {
			t.cfg.Mend(r)
		}
		command = r
	case raftVote:
		command = voteRequest(d)
	case raftPreVote:
		command = preVoteRequest(d)
	case raftTimeout:
		command = &raft.TimeoutNowRequest{RPCHeader: header(d)}
	default:
		return nil, fmt.Errorf("raft message %d: %w", kind, wire.ErrMalformed)
	}
	if err := d.End(); err != nil {
		return nil, err
	}
	if err := t.refuses(kind); err != nil {
		return nil, err
	}
	answer, err := t.Ask(ctx, raft.RPC{Command: command})
	if err != nil {
		return nil, err
	}
	switch r := answer.(type) {
	case *raft.AppendEntriesResponse:
		if err := t.synced(ctx, command, r); err != nil {
			return nil, err
		}
		return encodeAppendResponse(r), nil
	case *raft.RequestVoteResponse:
		return encodeVoteResponse(r), nil
	case *raft.RequestPreVoteResponse:
		return encodePreVoteResponse(r), nil
	case *raft.TimeoutNowResponse:
		return appendHeader(nil, r.RPCHeader), nil
	}
	return nil, fmt.Errorf("raft answered %T: %w", answer, wire.ErrMalformed)
}

// synced waits until what an answer acknowledges is on the disk: a member that led a moment
// ago may hold it in memory only, and raft writes nothing that it holds.
func (t *Transport) synced(ctx context.Context, command any, answer *raft.AppendEntriesResponse) error {
	r, ok := command.(*raft.AppendEntriesRequest)
	if t.cfg.Log == nil || !ok || !answer.Success {
		return nil
	}
	index := r.PrevLogEntry
	if n := len(r.Entries); n > 0 {
		index = r.Entries[n-1].Index
	}
	return t.cfg.Log.Synced(ctx, index) //nolint:wrapcheck // says enough
}

// Ask brings an RPC to raft and waits for the response.
func (t *Transport) Ask(ctx context.Context, rpc raft.RPC) (any, error) {
	done := make(chan raft.RPCResponse, 1)
	rpc.RespChan = done
	select {
	case t.consumer <- rpc:
	case <-t.closed:
		return nil, raft.ErrTransportShutdown
	case <-ctx.Done():
		return nil, ctx.Err() //nolint:wrapcheck // crosses the link as it is
	}
	select {
	case r := <-done:
		return r.Response, r.Error
	case <-t.closed:
		return nil, raft.ErrTransportShutdown
	case <-ctx.Done():
		return nil, ctx.Err() //nolint:wrapcheck // crosses the link as it is
	}
}
