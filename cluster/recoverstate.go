package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"carillon/blobstore"
	"carillon/cluster/gossip"
	"carillon/cluster/placement"
	"carillon/cluster/raftlog"
	"carillon/cluster/snapshot"
)

// askWait is how long a recovery looks for members that answer: several rounds
// of gossip, so that whoever is there is found.
const askWait = 5 * time.Second

// groupState is the Raft state of a group whose node does not run.
type groupState struct {
	conf      *raft.Config
	store     *raftlog.Store
	snapshots raft.SnapshotStore
	transport raft.Transport
}

func (r *Recovery) openState(name string) (*groupState, error) {
	return openGroupState(r.groupDir(name), groupSpec{
		name: name, nodeID: r.id, electionWait: r.cfg.ElectionWait, chatter: r.log,
	})
}

// openGroupState opens what lies in a group's directory, as spec says of it.
func openGroupState(dir string, spec groupSpec) (*groupState, error) {
	s := &groupState{conf: raftConfig(spec)}
	_, s.transport = raft.NewInmemTransport(raft.ServerAddress(spec.nodeID))
	var err error
	if s.store, err = raftlog.Open(filepath.Join(dir, "wal"), raftlog.Config{}, spec.chatter); err != nil {
		return nil, err //nolint:wrapcheck // says enough
	}
	if s.snapshots, err = snapshot.Open(dir, spec.chatter); err != nil {
		return nil, fmt.Errorf("%w (log: %v)", err, s.store.Close()) //nolint:errorlint // the first one counts
	}
	return s, nil
}

// rewrite applies everything in the log and makes voters the only members.
// Again, at any point of it: the same.
func (s *groupState) rewrite(dir string, m replaying, voters []string) error {
	if err := m.recover(s.snapshots); err != nil {
		return err //nolint:wrapcheck // the caller says of which group
	}
	var servers []raft.Server
	for _, id := range voters {
		servers = append(servers, raft.Server{
			Suffrage: raft.Voter, ID: raft.ServerID(id), Address: raft.ServerAddress(id),
		})
	}
	err := raft.RecoverCluster(s.conf, m, s.store, s.store, s.snapshots, s.transport,
		raft.Configuration{Servers: servers})
	if err = errors.Join(err, m.failure()); err != nil {
		return err
	}
	// A snapshot that was being restored has nobody to come from any more: what
	// had arrived of it is what there is, and what lacks is listed as silent.
	return snapshot.ForgetNote(dir)
}

// read fills in what log and snapshots say of the group.
func (s *groupState) read(g *RecoverGroup) error {
	has, err := raft.HasExistingState(s.store, s.store, s.snapshots)
	if err != nil || !has {
		return err //nolint:wrapcheck // the caller says of which group
	}
	g.Held = true
	list, err := s.snapshots.List()
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	if len(list) > 0 {
		g.Snapshot, g.Last, g.LastTerm = list[0].Index, list[0].Index, list[0].Term
	}
	if g.Applied == 0 {
		g.Applied = g.Snapshot
	}
	last, err := s.store.LastIndex()
	if err != nil {
		return fmt.Errorf("last entry: %w", err)
	}
	if last > g.Last {
		var entry raft.Log
		if err := s.store.GetLog(last, &entry); err != nil {
			return fmt.Errorf("entry %d: %w", last, err)
		}
		g.Last, g.LastTerm = last, entry.Term
	}
	// A term that was never written reads as an error, see raft's own use.
	g.Term, _ = s.store.GetUint64([]byte("CurrentTerm"))
	members, err := raft.GetConfiguration(s.conf, idle{}, s.store, s.store, s.snapshots, s.transport)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	g.Voters, g.Members = nil, nil
	for _, server := range members.Servers {
		g.Members = append(g.Members, string(server.ID))
		if server.Suffrage == raft.Voter {
			g.Voters = append(g.Voters, string(server.ID))
		}
	}
	return nil
}

// idle stands in for a state machine where only the log is read.
type idle struct{ raft.FSM }

// replaying is a group's machine while a recovery replays its log. What a
// snapshot stands for is on the disk already (see machine.recover), so
// restoring one does nothing.
type replaying struct {
	machine

	failed *error
}

// Restore reads nothing.
func (replaying) Restore(r io.ReadCloser) error { return r.Close() }

// Snapshot gives a view that is released when it is written: RecoverCluster of
// raft v1.8.0 forgets to, and the catalog's Close would wait for ever.
func (m replaying) Snapshot() (raft.FSMSnapshot, error) {
	s, err := m.machine.Snapshot()
	if err != nil {
		return nil, err //nolint:wrapcheck // says enough
	}
	return releasing{s}, nil
}

type releasing struct{ raft.FSMSnapshot }

// Persist writes and releases.
func (s releasing) Persist(sink raft.SnapshotSink) error {
	defer s.Release()
	return s.FSMSnapshot.Persist(sink) //nolint:wrapcheck // says enough
}

// failure is why the machine stopped, nil if it did not.
func (m replaying) failure() error { return *m.failed }

func (r *Recovery) machine(name string) replaying {
	failed := new(error)
	fatal := func(err error) { *failed = err }
	if name == placement.CatalogGroup {
		return replaying{&catalogMachine{
			breaker: breaker{fatal: fatal}, store: r.deps.Catalog, blobs: r.deps.Blobs,
		}, failed}
	}
	shards := r.charter.Shards
	return replaying{&blobMachine{
		breaker: breaker{fatal: fatal}, store: r.deps.Blobs,
		owns: func(id blobstore.ID) bool { return placement.BlobGroup(shardOf(id, shards)) == name },
	}, failed}
}

// Ask looks for members that answer: it gossips and asks in the name of the
// node, which does not run. What it heard is part of the next Facts.
func (r *Recovery) Ask(ctx context.Context) error {
	deps := r.deps
	deps.Metrics = prometheus.NewRegistry() // of a node that never was
	n := newNode(r.id, r.cfg, deps)
	n.announced = r.charter.Cluster
	// Nodes that wait to found a cluster must not count on this one.
	if err := n.promise.give(n.id, time.Now()); err != nil {
		return err
	}
	defer func() { _ = n.Close() }() // it held nothing
	if err := n.openLink(deps); err != nil {
		return err
	}
	if err := n.openGossip(deps); err != nil {
		return err
	}
	n.link.Serve()
	wait, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	peers := map[string]RecoverPeer{}
	for pause(wait, membershipWait) {
		for _, m := range n.gossip.Members() {
			if m.ID != r.id && !peers[m.ID].Answers {
				peers[m.ID] = r.askOne(wait, n, m)
			}
		}
	}
	r.peers = r.peers[:0]
	for _, p := range peers {
		r.peers = append(r.peers, p)
	}
	slices.SortFunc(r.peers, func(a, b RecoverPeer) int { return strings.Compare(a.ID, b.ID) })
	return ctx.Err() //nolint:wrapcheck // the caller's own
}

func (r *Recovery) askOne(ctx context.Context, n *Node, m gossip.Member) RecoverPeer {
	p := RecoverPeer{ID: m.ID, HTTP: m.HTTP}
	ctx, cancel := context.WithTimeout(ctx, statusWait)
	defer cancel()
	b, err := n.link.Call(ctx, m.ID, kindStatus)
	var s NodeStatus
	if err != nil || json.Unmarshal(b, &s) != nil || s.Cluster != r.charter.Cluster {
		return p
	}
	return RecoverPeer{ID: m.ID, Answers: true, HTTP: s.HTTP, Applied: s.Applied, Groups: s.Groups}
}
