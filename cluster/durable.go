package cluster

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"carillon/cluster/raftlog"
)

// durable is a state machine that is given an entry only when this node has it on its disk.
// A leader writes beside its followers (raftlog/flush.go), and raft hands an entry on as soon
// as one of them, of three, has it: with the leader that is not a majority that has it on disk.
type durable struct {
	raft.BatchingFSM

	log *raftlog.Store
	// passed is why an entry was passed over, for good: what follows it must not be applied.
	passed atomic.Pointer[error]
}

// ApplyBatch waits for the disk and applies entries. While the disk refuses it waits on; a group
// that is closed meanwhile applies nothing more.
func (d *durable) ApplyBatch(logs []*raft.Log) []any {
	if err := d.passed.Load(); err != nil {
		return same(*err, len(logs))
	}
	if err := d.log.Synced(context.Background(), logs[len(logs)-1].Index); err != nil {
		err = fmt.Errorf("%w: %w", errBroken, err)
		d.passed.Store(&err)
		return same(err, len(logs))
	}
	return d.BatchingFSM.ApplyBatch(logs)
}

// Snapshot refuses where an entry was passed over, which raft counts as applied.
func (d *durable) Snapshot() (raft.FSMSnapshot, error) {
	if err := d.passed.Load(); err != nil {
		return nil, *err
	}
	return d.BatchingFSM.Snapshot() //nolint:wrapcheck // a machine around a machine
}
