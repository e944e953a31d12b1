package snapshot

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"testing"

	"github.com/hashicorp/raft"
)

// broken is a machine that cannot restore.
type broken struct{ raft.BatchingFSM }

func (broken) Restore(r io.ReadCloser) error {
	return errors.Join(errors.New("broken off"), r.Close())
}

// TestHalfwayIsForgotten expects a snapshot whose restore did not end to be
// gone when the group is opened again, and one before it to stay.
func TestHalfwayIsForgotten(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	snapshots, err := Open(dir, log)
	if err != nil {
		t.Fatal(err)
	}
	for index := range uint64(2) {
		sink, err := snapshots.Create(1, 10+index, 1, raft.Configuration{}, 1, nil)
		if err == nil {
			err = sink.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	list, err := snapshots.List()
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	r := NewRestorer(broken{}, dir, snapshots)
	_, from, err := snapshots.Open(list[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Restore(from); err == nil {
		t.Fatal("nothing was restored without an error")
	}
	if err := ForgetHalfway(dir, log); err != nil {
		t.Fatal(err)
	}
	left, err := snapshots.List()
	if err != nil || len(left) != 1 || left[0].ID != list[1].ID {
		t.Errorf("left are %v, %v; want %s", left, err, list[1].ID)
	}
	if _, err := os.Stat(r.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the note is still there: %v", err)
	}
	if err := ForgetHalfway(dir, log); err != nil {
		t.Errorf("nothing to forget: %v", err)
	}
}
