package raftnet

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/raft"
	"pgregory.net/rapid"

	"carillon/cluster/wire"
)

func drawHeader(t *rapid.T) raft.RPCHeader {
	return raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersion(rapid.IntRange(0, 3).Draw(t, "version")),
		ID:              rapid.SliceOfN(rapid.Byte(), 0, 32).Draw(t, "id"),
		Addr:            rapid.SliceOfN(rapid.Byte(), 0, 32).Draw(t, "addr"),
	}
}

func drawLog(t *rapid.T) *raft.Log {
	return &raft.Log{
		Index: rapid.Uint64().Draw(t, "index"), Term: rapid.Uint64().Draw(t, "term"),
		Type:       raft.LogType(rapid.IntRange(0, 5).Draw(t, "type")),
		Data:       rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "data"),
		Extensions: rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "extensions"),
		AppendedAt: time.Unix(0, rapid.Int64Range(0, 1<<60).Draw(t, "at")),
	}
}

// TestRaftWire sends each raft message through its encoding and back.
func TestRaftWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := func(name string) uint64 { return rapid.Uint64().Draw(t, name) }
		yes := rapid.Bool().Draw(t, "yes")
		h := drawHeader(t)

		entries := rapid.SliceOfN(rapid.Custom(drawLog), 0, 5).Draw(t, "entries")
		app := &raft.AppendEntriesRequest{
			RPCHeader: h, Term: u("term"), PrevLogEntry: u("prev"), PrevLogTerm: u("prevterm"),
			LeaderCommitIndex: u("commit"), Entries: entries,
		}
		wantSame(t, app, decodeAll(t, bytes.Join(encodeAppend(app), nil), appendRequest))

		vote := &raft.RequestVoteRequest{
			RPCHeader: h, Term: u("term"), LastLogIndex: u("last"), LastLogTerm: u("lastterm"),
			LeadershipTransfer: yes,
		}
		wantSame(t, vote, decodeAll(t, encodeVote(vote), voteRequest))
		pre := &raft.RequestPreVoteRequest{RPCHeader: h, Term: vote.Term, LastLogIndex: 1, LastLogTerm: 2}
		wantSame(t, pre, decodeAll(t, encodePreVote(pre), preVoteRequest))
		install := &raft.InstallSnapshotRequest{
			RPCHeader: h, SnapshotVersion: 1, Term: vote.Term, LastLogIndex: 3, LastLogTerm: 4,
			Configuration: h.ID, ConfigurationIndex: 5, Size: 6,
		}
		wantSame(t, install, decodeAll(t, encodeInstall(install), installRequest))

		var appResp raft.AppendEntriesResponse
		wantResp := raft.AppendEntriesResponse{
			RPCHeader: h, Term: 1, LastLog: 2, Success: yes, NoRetryBackoff: !yes,
		}
		decodeInto(t, encodeAppendResponse(&wantResp), func(d *wire.Decoder) { appendResponse(d, &appResp) })
		wantSame(t, wantResp, appResp)
		var voteResp raft.RequestVoteResponse
		wantVote := raft.RequestVoteResponse{RPCHeader: h, Term: 9, Granted: yes}
		decodeInto(t, encodeVoteResponse(&wantVote), func(d *wire.Decoder) { voteResponse(d, &voteResp) })
		wantSame(t, wantVote, voteResp)
	})
}

func decodeAll[T any](t *rapid.T, b []byte, read func(*wire.Decoder) T) T {
	t.Helper()
	d := wire.NewDecoder(b)
	v := read(d)
	if err := d.End(); err != nil {
		t.Fatal(err)
	}
	return v
}

func decodeInto(t *rapid.T, b []byte, read func(*wire.Decoder)) {
	t.Helper()
	decodeAll(t, b, func(d *wire.Decoder) struct{} { read(d); return struct{}{} })
}

func wantSame(t *rapid.T, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		t.Fatal(d)
	}
}

// TestCutEntries checks that a message is bounded in bytes, loses nothing, and
// always goes on.
func TestCutEntries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []*raft.Log
		for i := range rapid.IntRange(0, 20).Draw(t, "n") {
			sizes := []int{0, 10, appendBytesMax / 3, appendBytesMax, appendBytesMax + 1}
			size := rapid.SampledFrom(sizes).Draw(t, "size")
			all = append(all, &raft.Log{Index: uint64(i), Data: make([]byte, size)})
		}
		var seen []*raft.Log
		for now, rest := cutEntries(all); ; now, rest = cutEntries(rest) {
			size := 0
			for _, l := range now {
				size += len(l.Data)
			}
			if size > appendBytesMax && len(now) > 1 {
				t.Fatalf("%d entries of %d bytes in one message", len(now), size)
			}
			if len(now) == 0 && len(rest) > 0 {
				t.Fatal("no progress")
			}
			seen = append(seen, now...)
			if len(rest) == 0 {
				break
			}
		}
		if len(seen) != len(all) {
			t.Fatalf("%d of %d entries", len(seen), len(all))
		}
	})
}

// FuzzRaftMessage feeds anything to the readers of raft messages: they must
// refuse it or read it, without a panic and without memory beyond its length.
func FuzzRaftMessage(f *testing.F) {
	l := &raft.Log{Index: 1, Term: 2, Data: []byte("data")}
	f.Add(bytes.Join(encodeAppend(&raft.AppendEntriesRequest{Term: 1, Entries: []*raft.Log{l}}), nil))
	f.Add(encodeVote(&raft.RequestVoteRequest{Term: 3}))
	f.Add(encodeInstall(&raft.InstallSnapshotRequest{Term: 3, Configuration: []byte("c")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := wire.NewDecoder(b)
		req := appendRequest(d)
		total := 0
		for _, l := range req.Entries {
			total += len(l.Data)
		}
		if total > len(b) {
			t.Fatalf("%d bytes of entries out of %d", total, len(b))
		}
		d = wire.NewDecoder(b)
		voteRequest(d)
		d = wire.NewDecoder(b)
		installRequest(d)
	})
}
