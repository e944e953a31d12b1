package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"carillon/cluster/placement"
	"carillon/cluster/raftlog"
	"carillon/cluster/snapshot"
)

// UPSTREAM.md says what each of these is about.

// countingMachine counts what is applied and restored.
type countingMachine struct{ restored int }

func (*countingMachine) Apply(*raft.Log) any { return nil }
func (m *countingMachine) Restore(r io.ReadCloser) error {
	m.restored++
	return r.Close()
}
func (*countingMachine) Snapshot() (raft.FSMSnapshot, error) { return nil, errors.New("none here") }

// TestConflictBehindSnapshot is hashicorp/raft#697 and its neighbour: a follower
// whose log reaches to a leader's snapshot, or beyond, refuses what follows the
// snapshot and is sent it again, for ever. With a store like raft's own because
// the entry there stays, with raft-wal because raft forgets that it is gone; ours
// answers for it (raftlog/emptied.go).
func TestConflictBehindSnapshot(t *testing.T) {
	t.Parallel()
	for _, index := range []uint64{1, 10, 12, 13, 40} { // the follower's log ends at 12
		for _, test := range []struct {
			name     string
			open     func(snapshots raft.SnapshotStore) bothStores
			livelock bool
		}{
			{"raft's own store", func(raft.SnapshotStore) bothStores { return raft.NewInmemStore() }, index <= 12},
			{"raft-wal as it is", func(s raft.SnapshotStore) bothStores { return openLog(t, s).WAL }, index <= 12},
			{"ours", func(s raft.SnapshotStore) bothStores { return openLog(t, s) }, false},
		} {
			t.Run(fmt.Sprintf("%s, snapshot at %d", test.name, index), func(t *testing.T) {
				t.Parallel()
				f := newFollower(t, test.open)
				for try := range 2 { // the leader's answer to a refusal is the same snapshot again
					_, ours := f.store.(*raftlog.Store)
					livelock := test.livelock || try > 0 && !ours // now the log ends behind the snapshot
					if accepted := f.installAndAppend(t, index, 2); accepted == livelock {
						t.Errorf("try %d: entries behind the snapshot accepted: %v; if that is true of raft now, "+
							"change UPSTREAM.md", try, accepted)
					}
				}
			})
		}
	}
}

// openLog opens an empty log for a node that keeps its snapshots there.
func openLog(t *testing.T, snapshots raft.SnapshotStore) *raftlog.Store {
	t.Helper()
	s, err := raftlog.Open(t.TempDir(), raftlog.Config{
		Snapshot: func() (uint64, uint64) { return snapshot.Newest(snapshots) },
	}, testLog(t, "wal"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// bothStores is all that a raft node stores its log in.
type bothStores interface {
	raft.LogStore
	raft.StableStore
}

// lone is a raft node on its own, spoken to as its leader would.
type lone struct {
	leader  *raft.InmemTransport
	machine *countingMachine
	store   bothStores
	members raft.Configuration
}

// newFollower has entries 1 to 12 of term 1, none of which is committed.
func newFollower(t *testing.T, open func(raft.SnapshotStore) bothStores) *lone {
	t.Helper()
	snapshots := raft.NewInmemSnapshotStore()
	store := open(snapshots)
	f := &lone{store: store, machine: &countingMachine{}, members: raft.Configuration{Servers: []raft.Server{
		{ID: "leader", Address: "leader"}, {ID: "follower", Address: "follower"},
	}}}
	for i := uint64(1); i <= 12; i++ {
		l := &raft.Log{Index: i, Term: 1, Type: raft.LogCommand, Data: []byte("stale")}
		if i == 1 {
			l.Type, l.Data = raft.LogConfiguration, raft.EncodeConfiguration(f.members)
		}
		if err := store.StoreLogs([]*raft.Log{l}); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.SetUint64([]byte("CurrentTerm"), 1); err != nil {
		t.Fatal(err)
	}
	conf := raftConfig(groupSpec{
		name: placement.BlobGroup(0), nodeID: "follower", electionWait: time.Hour, chatter: testLog(t, "follower"),
	})
	_, here := raft.NewInmemTransport("follower")
	_, f.leader = raft.NewInmemTransport("leader")
	f.leader.Connect("follower", here)
	r, err := raft.NewRaft(conf, f.machine, store, store, snapshots, here)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Shutdown().Error(); err != nil {
			t.Error(err)
		}
		if c, ok := store.(io.Closer); ok {
			_ = c.Close()
		}
	})
	return f
}

// installAndAppend sends a snapshot up to index and the entry after it, and says
// whether that was accepted.
func (f *lone) installAndAppend(t *testing.T, index, term uint64) bool {
	t.Helper()
	id := []byte("leader")
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: id, Addr: id}
	snapshot := []byte("a snapshot")
	var installed raft.InstallSnapshotResponse
	err := f.leader.InstallSnapshot("follower", "follower", &raft.InstallSnapshotRequest{
		RPCHeader: header, SnapshotVersion: raft.SnapshotVersionMax, Term: term,
		LastLogIndex: index, LastLogTerm: term,
		Configuration: raft.EncodeConfiguration(f.members), ConfigurationIndex: 1, Size: int64(len(snapshot)),
	}, &installed, bytes.NewReader(snapshot))
	if err != nil || !installed.Success || f.machine.restored == 0 {
		t.Fatalf("snapshot not installed: %+v %v", installed, err)
	}
	var appended raft.AppendEntriesResponse
	req := &raft.AppendEntriesRequest{
		RPCHeader: header, Term: term, PrevLogEntry: index, PrevLogTerm: term,
		Entries: []*raft.Log{{Index: index + 1, Term: term, Type: raft.LogNoop}},
	}
	if ours, ok := f.store.(*raftlog.Store); ok {
		ours.Mend(req) // as the transport does
	}
	if err = f.leader.AppendEntries("follower", "follower", req, &appended); err != nil {
		t.Fatal(err)
	}
	return appended.Success
}
