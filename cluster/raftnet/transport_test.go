package raftnet

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"carillon/cluster/wire"
)

// UPSTREAM.md of cluster says what each of these is about.

// TestNoHeartbeatFastPath is hashicorp/raft#695: what raft would run on the
// transport's goroutine, beside a leader that is writing, comes to raft's main
// loop like every other message, whatever handler raft sets.
func TestNoHeartbeatFastPath(t *testing.T) {
	t.Parallel()
	tr := &Transport{consumer: make(chan raft.RPC), closed: make(chan struct{})}
	tr.SetHeartbeatHandler(func(raft.RPC) { t.Error("a heartbeat took the fast path") })
	heartbeat := &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("a"), Addr: []byte("a")},
		Term:      7,
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	answered := make(chan error, 1)
	go func() {
		_, err := tr.receive(ctx, raftAppend, wire.NewDecoder(bytes.Join(encodeAppend(heartbeat), nil)))
		answered <- err
	}()
	select {
	case rpc := <-tr.Consumer():
		if got, ok := rpc.Command.(*raft.AppendEntriesRequest); !ok || got.Term != 7 || len(got.Entries) != 0 {
			t.Errorf("main loop got %+v", rpc.Command)
		}
		rpc.Respond(&raft.AppendEntriesResponse{Term: 7}, nil)
	case <-ctx.Done():
		t.Fatal("the heartbeat did not come to the main loop")
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// TestNoPipeline is hashicorp/raft#612: raft asks for a pipeline after its first
// success and is refused, so every message is answered before the next goes out,
// and one that is never answered ends with its time.
func TestNoPipeline(t *testing.T) {
	t.Parallel()
	tr := &Transport{}
	p, err := tr.AppendEntriesPipeline("b", "b")
	if p != nil || !errors.Is(err, raft.ErrPipelineReplicationNotSupported) {
		t.Errorf("pipeline %v, %v", p, err)
	}
}
