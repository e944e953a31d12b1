package snapshot

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"

	"carillon/cluster/statefile"
)

// Raft writes a leader's snapshot to its snapshot directory before the state
// machine restores it, and at the next start takes what lies there for
// restored (NoSnapshotRestoreOnStart). A node that dies while it fetches blobs
// for a manifest would thus count as a copy of what it does not have. So the
// name of the snapshot is written down while it is being restored, and a group
// that is opened with such a note forgets the snapshot: the leader sends it
// again, and what was fetched already is not fetched twice.

// halfwayFile lies in a group's directory while a snapshot is being restored.
const halfwayFile = "restoring"

// Restorer is a state machine whose Restore leaves that note.
type Restorer struct {
	raft.BatchingFSM

	path      string
	snapshots raft.SnapshotStore
}

// NewRestorer puts the note around a machine, in the directory of its group.
func NewRestorer(machine raft.BatchingFSM, dir string, snapshots raft.SnapshotStore) Restorer {
	return Restorer{BatchingFSM: machine, path: filepath.Join(dir, halfwayFile), snapshots: snapshots}
}

// Restore restores a leader's snapshot.
func (r Restorer) Restore(from io.ReadCloser) error {
	list, err := r.snapshots.List()
	if err == nil && len(list) == 0 {
		err = errors.New("the snapshot to restore is not in its store") //nolint:err113 // cannot be met
	}
	if err == nil {
		err = statefile.Write(r.path, list[0].ID)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("note the snapshot: %w", err), from.Close())
	}
	if err := r.BatchingFSM.Restore(from); err != nil {
		return err //nolint:wrapcheck // raft logs it
	}
	return statefile.Remove(r.path)
}

// ForgetHalfway removes the snapshot whose Restore was interrupted.
func ForgetHalfway(dir string, log *slog.Logger) error {
	path := filepath.Join(dir, halfwayFile)
	var id string
	if err := statefile.Read(path, &id); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("snapshot that was being restored: %w", err)
	}
	log.Warn("a snapshot was being restored when the node stopped; the leader will send it again",
		"snapshot", id)
	if id != "" && filepath.Base(id) == id {
		if err := os.RemoveAll(filepath.Join(dir, "snapshots", id)); err != nil {
			return fmt.Errorf("forget snapshot %s: %w", id, err)
		}
	}
	return statefile.Remove(path)
}

// ForgetNote forgets that a snapshot was being restored, and keeps it. Where none
// was: success.
func ForgetNote(dir string) error {
	err := statefile.Remove(filepath.Join(dir, halfwayFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
