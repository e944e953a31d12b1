package cluster

import (
	"errors"
	"testing"

	"github.com/hashicorp/raft"

	"carillon/blobstore"
	"carillon/cluster/command"
)

func openCatalog(t *testing.T) *blobstore.CatalogStore {
	t.Helper()
	c, err := blobstore.OpenCatalog(blobstore.CatalogConfig{Dir: t.TempDir()}, testLog(t, "catalog"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func openStore(t *testing.T) *blobstore.Store {
	t.Helper()
	s, err := blobstore.OpenStore(blobstore.StoreConfig{Dir: t.TempDir()}, testLog(t, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// catalogLog is a log with conflicts, deletes and repeated transactions.
func catalogLog() []*raft.Log {
	var logs []*raft.Log
	add := func(id byte, txn blobstore.Txn) {
		logs = append(logs, &raft.Log{
			Index: uint64(len(logs) + 1), Type: raft.LogCommand,
			Data: command.EncodeTxn(command.FormatMax, command.TxnID{id}, txn),
		})
	}
	row := func(k, v string) []blobstore.Row { return []blobstore.Row{{Key: k, Value: []byte(v)}} }
	add(1, blobstore.Txn{Put: row("a", "1")})
	add(2, blobstore.Txn{If: []blobstore.Cond{{Key: "a", Revision: 1}}, Put: row("a", "2")})
	add(2, blobstore.Txn{If: []blobstore.Cond{{Key: "a", Revision: 1}}, Put: row("a", "2")})
	add(3, blobstore.Txn{If: []blobstore.Cond{{Key: "a", Revision: 1}}, Put: row("b", "never")})
	add(4, blobstore.Txn{Put: row("c", "3"), Delete: []string{"a"}})
	logs = append(logs, &raft.Log{Index: uint64(len(logs) + 1), Type: raft.LogConfiguration})
	add(5, blobstore.Txn{If: []blobstore.Cond{{Key: "a"}}, Put: row("a", "again")})
	return logs
}

// TestCatalogApplyIsPure applies one log cut in different ways, and again from
// any point on, and compares the states.
func TestCatalogApplyIsPure(t *testing.T) {
	logs := catalogLog()
	var want [32]byte
	for cut := range logs {
		store := openCatalog(t)
		m := &catalogMachine{breaker: breaker{fatal: func(err error) { t.Error(err) }}, store: store}
		m.ApplyBatch(logs[:cut+1])
		m.ApplyBatch(logs[cut/2:]) // replay of what was applied, as after a restart
		got, err := store.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if cut == 0 {
			want = got
		}
		if got != want {
			t.Errorf("cut at %d gives another state", cut)
		}
	}
}

// TestCatalogOutcomes checks each response against its entry: what was proposed
// twice tells the position of its rows, which the second proposal has not.
func TestCatalogOutcomes(t *testing.T) {
	m := &catalogMachine{breaker: breaker{fatal: func(err error) { t.Error(err) }}, store: openCatalog(t)}
	out := m.ApplyBatch(catalogLog())
	for i, want := range []blobstore.TxnResult{
		{Index: 1}, {Index: 2}, {Index: 2}, {Index: 4, Err: blobstore.ErrConflict}, {Index: 5}, {}, {Index: 7},
	} {
		got, _ := out[i].(blobstore.TxnResult)
		if got.Index != want.Index || !errors.Is(got.Err, want.Err) {
			t.Errorf("entry %d: %v, want %v", i+1, got, want)
		}
	}
}

// TestBadCommandStopsTheMachine expects that nothing is applied after an entry
// that cannot be understood, and that the node hears of it once.
func TestBadCommandStopsTheMachine(t *testing.T) {
	var told int
	store := openStore(t)
	m := &blobMachine{breaker: breaker{fatal: func(error) { told++ }}, store: store}
	ops := []blobstore.Op{{Kind: blobstore.OpBegin, ID: blobstore.NewID()}}
	good := command.EncodeBlobs(command.FormatMax, ops)
	for i, data := range [][]byte{command.EncodeBlobs(command.FormatMax+1, nil), good} {
		out := m.Apply(&raft.Log{Index: uint64(i + 1), Type: raft.LogCommand, Data: data})
		if _, ok := out.(error); !ok {
			t.Errorf("entry %d: %v, want an error", i+1, out)
		}
	}
	if told != 1 || store.Stats().Blobs != 0 {
		t.Errorf("told %d times, %d blobs; want 1 and 0", told, store.Stats().Blobs)
	}
	if _, err := m.Snapshot(); !errors.Is(err, errBroken) {
		t.Errorf("snapshot of a broken machine: %v", err)
	}
	c := &catalogMachine{breaker: breaker{fatal: func(error) {}}}
	newer := command.EncodeTxn(command.FormatMax+1, command.TxnID{}, blobstore.Txn{})
	c.Apply(&raft.Log{Index: 1, Type: raft.LogCommand, Data: newer})
	if _, err := c.Snapshot(); !errors.Is(err, errBroken) {
		t.Errorf("snapshot of a broken catalog: %v", err)
	}
}

// TestInShard moves ids into every shard and expects the rest of the id to
// stay random.
func TestInShard(t *testing.T) {
	extreme := blobstore.ID{}
	for i := range extreme {
		extreme[i] = 0xff
	}
	for shards := 1; shards <= ShardsMax; shards += 17 {
		for shard := range shards {
			for _, id := range []blobstore.ID{blobstore.NewID(), {}, extreme} {
				moved := inShard(id, shard, shards)
				if got := shardOf(moved, shards); got != shard {
					t.Fatalf("%s is in shard %d of %d, want %d", moved, got, shards, shard)
				}
				if [8]byte(moved[8:]) != [8]byte(id[8:]) {
					t.Fatalf("%s became %s", id, moved)
				}
			}
		}
	}
}
