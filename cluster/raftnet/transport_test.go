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

// halfLog is on the disk up to an index, and fails who waits for more.
type halfLog uint64

var errNotSynced = errors.New("not on the disk")

func (l halfLog) SyncedTo(index uint64) uint64 { return min(index, uint64(l)) }

func (l halfLog) Synced(_ context.Context, index uint64) error {
	if index > uint64(l) {
		return errNotSynced
	}
	return nil
}

// TestAcknowledgedWhenSynced: a member that led a moment ago may hold what it is sent in memory
// only. It says so when the disk has it, and answers at once where it acknowledges nothing.
func TestAcknowledgedWhenSynced(t *testing.T) {
	t.Parallel()
	entries := func(to uint64) *raft.AppendEntriesRequest {
		return &raft.AppendEntriesRequest{Term: 7, PrevLogEntry: to - 1, Entries: []*raft.Log{{Index: to, Term: 7}}}
	}
	for name, c := range map[string]struct {
		request *raft.AppendEntriesRequest
		success bool
		want    error
	}{
		"on disk":                     {entries(5), true, nil},
		"ahead of the disk":           {entries(6), true, errNotSynced},
		"refused":                     {entries(6), false, nil},
		"heartbeat":                   {&raft.AppendEntriesRequest{Term: 7}, true, nil},
		"what comes before, on disk":  {&raft.AppendEntriesRequest{Term: 7, PrevLogEntry: 5}, true, nil},
		"what comes before, is ahead": {&raft.AppendEntriesRequest{Term: 7, PrevLogEntry: 6}, true, errNotSynced},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := &Transport{
				consumer: make(chan raft.RPC), closed: make(chan struct{}), cfg: Config{Log: halfLog(5)},
			}
			go func() {
				rpc := <-tr.consumer
				rpc.Respond(&raft.AppendEntriesResponse{Term: 7, Success: c.success}, nil)
			}()
			_, err := tr.receive(t.Context(), raftAppend, wire.NewDecoder(bytes.Join(encodeAppend(c.request), nil)))
			if !errors.Is(err, c.want) {
				t.Errorf("answer %v, want %v", err, c.want)
			}
		})
	}
}
