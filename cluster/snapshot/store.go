package snapshot

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hashicorp/raft"

	"carillon/blobstore"
	"carillon/cluster/statefile"
	"carillon/internal/hlog"
)

// kept is how many snapshots stay: the newest and one before.
const kept = 2

// Open opens the snapshots of a group, which lie below its directory.
func Open(dir string, log *slog.Logger) (raft.SnapshotStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("snapshot directory: %w", err)
	}
	s, err := raft.NewFileSnapshotStoreWithLogger(dir, kept, hlog.HCLog(log, "snapshot"))
	if err != nil {
		return nil, fmt.Errorf("open snapshots in %s: %w", dir, err)
	}
	return store{s, dir}, nil
}

// store is raft's own store of snapshots, but for one thing: raft v1.8.0
// syncs the files of a snapshot and the directory above, and not the directory
// with the names of the files. Where a sync does not make earlier names durable,
// a power cut leaves a snapshot without its description, while the log before it
// is gone.
type store struct {
	raft.SnapshotStore

	dir string // of the group
}

// Create begins a snapshot.
func (s store) Create(
	version raft.SnapshotVersion, index, term uint64, members raft.Configuration, membersIndex uint64,
	trans raft.Transport,
) (raft.SnapshotSink, error) {
	begun, err := s.SnapshotStore.Create(version, index, term, members, membersIndex, trans)
	if err != nil {
		return nil, err //nolint:wrapcheck // raft logs it
	}
	// The names are there from the beginning; Close writes into the same files.
	return sink{begun, filepath.Join(s.dir, "snapshots", begun.ID()+".tmp")}, nil
}

type sink struct {
	raft.SnapshotSink

	dir string
}

// Close makes the snapshot durable. Again: success.
func (s sink) Close() error {
	if err := statefile.SyncDir(s.dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("sync snapshot: %w", errors.Join(err, s.Cancel()))
	}
	return s.SnapshotSink.Close() //nolint:wrapcheck // raft logs it
}

// IsDamage says whether an error of reading a snapshot means that the disk has not what
// was written, and not that this node is short of something. raft v1.8.0 has no sentinel
// for a checksum that fails.
func IsDamage(err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, blobstore.ErrCorrupt) || errors.Is(err, syscall.EIO) || errors.Is(err, os.ErrNotExist) {
		return true
	}
	return err.Error() == "CRC mismatch"
}

// Newest reads index and term of the newest snapshot, 0 if there is none.
func Newest(snapshots raft.SnapshotStore) (index, term uint64) {
	list, err := snapshots.List()
	if err != nil || len(list) == 0 {
		return 0, 0
	}
	return list[0].Index, list[0].Term
}
