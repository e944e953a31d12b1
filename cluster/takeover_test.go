package cluster

import (
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"carillon/blobstore"
)

// TestLeaderDies kills the process of the catalog's leader and measures in
// virtual time when the next commit is acknowledged: at once, not after an
// election timeout. A leader that is only cut off is given its time.
func TestLeaderDies(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, dir)
		defer s.closeAll()
		for range 4 {
			pause(t.Context(), 2*time.Second)
			lead := s.catalogLeader()
			begun := time.Now()
			s.net.Host(hostName(lead)).Kill()
			s.commit((lead + 1) % simNodes)
			if took := time.Since(begun); took > ElectionWaitDefault/10 {
				t.Errorf("next commit after %v", took)
			}
			s.node(lead).close(t)
			s.open(lead)
			waitReady(t, s.nodes...)
		}
	})
}

// TestSilentLeader pauses the way to a leader for less than the election
// timeout: nobody else may lead afterwards.
func TestSilentLeader(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, dir)
		defer s.closeAll()
		s.commit(0)
		lead := s.catalogLeader()
		term := s.node(lead).catalog.raft.CurrentTerm()
		for range 10 {
			s.net.Isolate(hostName(lead))
			pause(t.Context(), ElectionWaitDefault/3)
			s.net.HealAll()
			pause(t.Context(), time.Second)
		}
		if now := s.node(lead).catalog.raft.CurrentTerm(); s.catalogLeader() != lead || now != term {
			t.Errorf("node %d leads in term %d, before %d in %d", s.catalogLeader(), now, lead, term)
		}
	})
}

// TestLoadedDisks makes every sync take half of the election timeout while
// clients write: that is slow, and no reason for an election.
func TestLoadedDisks(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, dir)
		defer s.closeAll()
		s.commit(0)
		pause(t.Context(), 2*balanceWait) // leadership has come to rest
		terms := func() map[string]uint64 {
			all := map[string]uint64{}
			for _, g := range s.node(0).groups() {
				all[g.name] = g.raft.CurrentTerm()
			}
			return all
		}
		before := terms()
		for i := range s.disks {
			s.disks[i].wait.Store(int64(ElectionWaitDefault / 2))
		}
		for i := range 20 {
			mustUpload(t, s.node(i%simNodes), fmt.Sprintf("item-%d", i), noise(uint64(i), 1+i*50_000))
		}
		if after := terms(); !maps.Equal(before, after) {
			t.Errorf("terms %v became %v", before, after)
		}
		for i := range s.disks {
			s.disks[i].wait.Store(0)
		}
	})
}

// catalogLeader is the index of the node that leads the catalog.
func (s *sim) catalogLeader() int {
	s.t.Helper()
	lead := -1
	eventually(s.t, "catalog leader", func() error {
		for i := range s.nodes {
			if s.node(i).catalog.leads() {
				lead = i
				return nil
			}
		}
		return errNotLeader
	})
	return lead
}

// commit puts a row through a node.
func (s *sim) commit(through int) {
	s.t.Helper()
	txn := blobstore.Txn{Put: []blobstore.Row{{Key: "k"}}}
	if _, err := s.node(through).Catalog().Commit(s.t.Context(), txn); err != nil {
		s.t.Fatal(err)
	}
}
