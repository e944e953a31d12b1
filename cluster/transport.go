package cluster

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/hashicorp/raft"

	"carillon/cluster/peer"
	"carillon/internal/hlog"
)

const (
	// raftConnsPerPeerMax bounds the idle connections of one group to one peer:
	// one replicates, one carries heartbeats, one is for votes.
	raftConnsPerPeerMax = 3
	// raftRPCWait bounds one raft message. 4 MiB of entries in 10 s need
	// 3.4 Mbit/s, less than any link that telephony runs over.
	raftRPCWait = 10 * time.Second
)

// streams lets raft dial and accept through the peer link. Raft's addresses
// are node ids: where a node is, the link asks gossip at each dial, so a node
// may come back with any address.
type streams struct {
	net.Listener
	link *peer.Link
	name string
}

var _ raft.StreamLayer = streams{}

// Dial opens a stream to the same group on another node.
func (s streams) Dial(node raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.link.Dial(ctx, string(node), s.name) //nolint:wrapcheck // raft logs it
}

// transport is raft's network transport with two differences that close faults
// of hashicorp/raft.
//
// It has no heartbeat fast path (SetHeartbeatHandler does nothing), so that
// heartbeats pass through raft's main loop like everything else: on the fast
// path they change the term under a leader that is writing, and two nodes may
// commit different entries (hashicorp/raft#695). The price is that a heartbeat
// waits for the disk write before it, which electionWait allows for.
//
// It does not pipeline (MaxRPCsInFlight 1): after a stall on a follower the
// pipeline may stop for good (hashicorp/raft#612). Entries that arrive while
// one message is on its way go together in the next, with one fsync.
type transport struct {
	*raft.NetworkTransport
}

var (
	_ raft.Transport   = transport{}
	_ raft.WithPreVote = transport{}
)

// SetHeartbeatHandler ignores raft's fast path, see [transport].
func (transport) SetHeartbeatHandler(func(raft.RPC)) {}

func newTransport(link *peer.Link, group string, log *slog.Logger) transport {
	name := "raft/" + group
	return transport{raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Logger:                  hlog.HCLog(log, "raft-net"),
		Stream:                  streams{Listener: link.Listener(name), link: link, name: name},
		MaxPool:                 raftConnsPerPeerMax,
		MaxRPCsInFlight:         1,
		Timeout:                 raftRPCWait,
		MsgpackUseNewTimeFormat: true,
	})}
}
