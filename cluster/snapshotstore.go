package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"

	"carillon/cluster/statefile"
)

// snapshotStore is raft's own store of snapshots, but for one thing: raft v1.8.0
// syncs the files of a snapshot and the directory above, and not the directory
// with the names of the files. Where a sync does not make earlier names durable,
// a power cut leaves a snapshot without its description, while the log before it
// is gone.
type snapshotStore struct {
	raft.SnapshotStore

	dir string // of the group
}

// Create begins a snapshot.
func (s snapshotStore) Create(
	version raft.SnapshotVersion, index, term uint64, members raft.Configuration, membersIndex uint64,
	trans raft.Transport,
) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(version, index, term, members, membersIndex, trans)
	if err != nil {
		return nil, err //nolint:wrapcheck // raft logs it
	}
	// The names are there from the beginning; Close writes into the same files.
	return snapshotSink{sink, filepath.Join(s.dir, "snapshots", sink.ID()+".tmp")}, nil
}

type snapshotSink struct {
	raft.SnapshotSink

	dir string
}

// Close makes the snapshot durable. Again: success.
func (s snapshotSink) Close() error {
	if err := statefile.SyncDir(s.dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("sync snapshot: %w", errors.Join(err, s.Cancel()))
	}
	return s.SnapshotSink.Close() //nolint:wrapcheck // raft logs it
}

// newestSnapshot reads index and term of the newest snapshot, 0 if there is none.
func newestSnapshot(snapshots raft.SnapshotStore) (index, term uint64) {
	list, err := snapshots.List()
	if err != nil || len(list) == 0 {
		return 0, 0
	}
	return list[0].Index, list[0].Term
}
