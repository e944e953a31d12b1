package cluster

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"carillon/blobstore"
)

// TestFreshWithoutLeader: in an outage one read waits for the leader, and those
// after it do not, in virtual time; the first one after the outage is fresh.
func TestFreshWithoutLeader(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, dir)
		defer s.closeAll()
		s.commit(0)
		n := s.node(0)
		s.net.Isolate(hostName(0))
		s.wait(time.Minute) // nobody leads in what is left
		fresh := func() time.Duration {
			begun := time.Now()
			if err := n.Catalog().Fresh(t.Context()); !errors.Is(err, blobstore.ErrUnavailable) {
				t.Errorf("fresh without a majority: %v", err)
			}
			return time.Since(begun)
		}
		if took := fresh(); took != freshWait {
			t.Errorf("the first read waited %v, want %v", took, freshWait)
		}
		for range 30 {
			if took := fresh(); took > freshWait/100 {
				t.Errorf("another read waited %v", took)
			}
		}
		s.net.HealAll()
		eventually(t, "fresh again", func() error {
			if err := n.Catalog().Fresh(t.Context()); err != nil {
				return fmt.Errorf("after the outage: %w", err)
			}
			return nil
		})
		if n.leaderless.Load() {
			t.Error("reads still do not wait")
		}
	})
}
