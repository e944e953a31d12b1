package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"carillon/cluster/placement"
)

var errDisk = errors.New("disk refuses")

// hangingDisk is one whose syncs hang, or fail, while it is told so.
type hangingDisk struct {
	refuses atomic.Bool

	mu   sync.Mutex
	gate chan struct{} // nil: it does not hang
}

func (h *hangingDisk) hang() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gate = make(chan struct{})
}

func (h *hangingDisk) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gate != nil {
		close(h.gate)
	}
	h.gate = nil
}

func (h *hangingDisk) beforeSync() error {
	h.mu.Lock()
	gate := h.gate
	h.mu.Unlock()
	if gate != nil {
		<-gate
	}
	if h.refuses.Load() {
		return errDisk
	}
	return nil
}

// Goal: a leader whose disk hangs is not waited for: the others elect and
// write, it says what is wrong, and afterwards it has everything.
func TestStalledLeaderGivesUp(t *testing.T) {
	nodes, disks, leader := startOnDisks(t, 400*time.Millisecond)
	disks[leader].hang()
	defer disks[leader].release()
	ctx, cancel := context.WithTimeout(t.Context(), testWait)
	defer cancel()
	body := noise(1, 1000)
	other := nodes[(leader+1)%3]
	if _, err := upload(ctx, other, "during", body); err != nil { // is on its way when the disk hangs
		t.Fatalf("write through the stalled leader: %v", err)
	}
	if other.catalog.leader() == nodes[leader].id {
		t.Error("the stalled node leads on")
	}
	eventually(t, "the node says so", func() error {
		if err := nodes[leader].Ready(); err == nil {
			return errors.New("it is ready")
		}
		if name, _ := nodes[leader].stalledGroup(); name != placement.CatalogGroup {
			return fmt.Errorf("stalled group is %q", name)
		}
		return nil
	})
	disks[leader].release()
	waitReady(t, nodes...)
	sameCatalogs(t, nodes...)
	if err := checkItem(ctx, nodes[leader], "during", body); err != nil {
		t.Error(err)
	}
	if nodes[leader].stalls() == 0 {
		t.Error("no stall was counted")
	}
}
