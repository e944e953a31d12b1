package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"carillon/blobstore"
)

func TestDiskLines(t *testing.T) {
	var limits DiskLimits
	limits.withDefaults()
	limits.WarnPercent, limits.StopPercent, limits.ResumePercent = 10, 5, 7
	const gib = 1 << 30
	for _, tt := range []struct {
		total int64
		want  diskLines
	}{
		{4000 * gib, diskLines{warn: 8 * gib, resume: 3 * gib, stop: 2 * gib, out: gib, floor: 208 << 20}},
		{20 * gib, diskLines{warn: 2 * gib, resume: 1503238484, stop: gib, out: gib / 2, floor: 208 << 20}},
		{gib, diskLines{warn: 468 << 20, resume: 468 << 20, stop: 416 << 20, out: 260 << 20, floor: 208 << 20}},
	} {
		got := limits.lines(tt.total, 9)
		if got.floor != tt.want.floor || got.warn/100*100 > tt.want.warn || got.stop > tt.want.stop ||
			got.out > tt.want.out || got.floor >= got.out || got.out >= got.stop || got.stop >= got.resume ||
			got.resume > got.warn {
			t.Errorf("disk of %d: %+v, want about %+v", tt.total, got, tt.want)
		}
	}
}

// Goal: a disk at a limit does not go to and fro.
func TestDiskLevelHysteresis(t *testing.T) {
	d := diskLines{warn: 1000, resume: 600, stop: 400, out: 200, floor: 100}
	level := diskRoomy
	for i, step := range []struct {
		free int64
		want diskLevel
	}{
		{1001, diskRoomy},
		{999, diskLow},
		{1001, diskLow},
		{1100, diskRoomy},
		{399, diskFull},
		{401, diskFull},
		{599, diskFull},
		{601, diskLow},
		{199, diskOut},
		{201, diskOut},
		{399, diskOut},
		{401, diskFull},
		{5000, diskRoomy},
	} {
		if level = d.level(level, step.free); level != step.want {
			t.Fatalf("step %d, %d free: %v, want %v", i, step.free, level, step.want)
		}
	}
}

// fakeSpace is a disk whose free space a test sets.
func fakeSpace(free *atomic.Int64) diskSpace {
	return func(string) (int64, int64, error) { return free.Load(), 1 << 40, nil }
}

// Goal: one full replica refuses uploads everywhere and nothing else; when a
// majority is out, recordings are refused too; deletions always work; it ends
// by itself.
func TestFullDiskIsRefused(t *testing.T) {
	free := make([]atomic.Int64, 3)
	next := 0
	for i := range free {
		free[i].Store(1 << 39)
	}
	nodes := startClusterWith(t, 3, nil, func(d *Deps) {
		d.space = fakeSpace(&free[next])
		next++
	})
	body := noise(1, 3*blobstore.ChunkBytesMax)
	mustUpload(t, nodes[0], "kept", body)
	lines := nodes[2].Node.cfg.Disk
	free[2].Store(lines.StopBytes - 1)
	ctx, cancel := context.WithTimeout(t.Context(), testWait)
	defer cancel()
	for i, n := range nodes {
		eventually(t, "uploads refused", func() error {
			if _, err := upload(ctx, n, fmt.Sprintf("refused-%d", i), body); !errors.Is(err, blobstore.ErrNoSpace) {
				return fmt.Errorf("node %d: %w, want ErrNoSpace", i, err)
			}
			return nil
		})
		if err := checkItem(ctx, n, "kept", body); err != nil {
			t.Errorf("play while full: %v", err)
		}
		if err := n.Room(); err != nil {
			t.Errorf("recordings refused with one full replica: %v", err)
		}
		if _, err := n.Catalog().Commit(ctx, blobstore.Txn{
			Urgent: true, Put: []blobstore.Row{{Key: fmt.Sprint("urgent-", i)}},
		}); err != nil {
			t.Errorf("urgent commit: %v", err)
		}
	}
	free[1].Store(1)
	free[2].Store(1)
	eventually(t, "recordings refused", func() error {
		if err := nodes[0].Room(); !errors.Is(err, blobstore.ErrNoSpace) {
			return fmt.Errorf("%w, want ErrNoSpace", err)
		}
		return nil
	})
	free[1].Store(diskFloorBytes)
	free[2].Store(diskFloorBytes)
	eventually(t, "deleted", func() error {
		_, err := nodes[0].Catalog().Commit(ctx, blobstore.Txn{Delete: []string{"urgent-0"}})
		return err
	})
	free[1].Store(1 << 39)
	free[2].Store(1 << 39)
	eventually(t, "writes resume", func() error {
		_, err := upload(ctx, nodes[0], "again", body)
		return err
	})
	if err := checkItem(ctx, nodes[2], "again", body); err != nil {
		t.Error(err)
	}
}
