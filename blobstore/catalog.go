package blobstore

import (
	"context"
	"iter"
)

// Limits of the catalog.
const (
	// KeyBytesMax bounds a row's key: an account, an id of 255 bytes that
	// escaping may triple, and a prefix.
	KeyBytesMax = 1 << 10
	// RowBytesMax bounds a row's value. Documents are small; what is larger
	// belongs into a blob.
	RowBytesMax = 64 << 10
	// TxnOpsMax bounds the operations of one Txn, conditions included.
	TxnOpsMax = 256
)

// RefPrefix starts the keys of reference rows, see [RefKey].
const RefPrefix = "ref/"

// RefKey is the key of the row by which holder keeps a blob alive. A blob
// without any reference row is swept after a grace. Holder is the key of the
// row that uses the blob.
func RefKey(id ID, holder string) string { return RefPrefix + id.String() + "/" + holder }

// Row is one entry of the replicated catalog. Keys are ordered bytewise.
type Row struct {
	Key   string
	Value []byte
	// Revision is the catalog log position of the commit that wrote the row:
	// equal on all nodes, always growing.
	Revision uint64
}

// Cond is a condition of a Txn: the row has this revision now. Revision 0:
// there is no such row.
type Cond struct {
	Key      string
	Revision uint64
}

// Txn is one atomic change of the catalog. All conditions hold and everything
// is written, or nothing is. Rows in Put take the commit's log position as
// their revision; the Revision they carry is ignored.
type Txn struct {
	If     []Cond
	Put    []Row
	Delete []string
}

// Catalog is the replicated table of small rows: documents, recordings,
// references. Reads are local and never wait. All methods may be called
// concurrently.
type Catalog interface {
	// Get returns the row as this node knows it, or ErrNotFound. The value may
	// be kept but not changed.
	Get(ctx context.Context, key string) (Row, error)
	// Scan yields the rows with the prefix whose key is greater than after, in
	// order, from one consistent view. Stop early by breaking the loop.
	Scan(ctx context.Context, prefix, after string) iter.Seq2[Row, error]
	// Commit applies txn on a majority, durably, and returns its log position.
	// When it returns, a Get on this node sees it. ErrConflict: a condition
	// did not hold and nothing was written. ErrUnavailable or ctx.Err(): it
	// may have happened or not. A commit is never applied twice.
	Commit(ctx context.Context, txn Txn) (revision uint64, err error)
	// Fresh returns once this node has applied everything that was committed
	// before the call (promise 4: play your own write), or ErrUnavailable.
	Fresh(ctx context.Context) error
	// Applied is the log position this node has applied.
	Applied() uint64
	// Watch returns a channel that is closed when the row changes (also by
	// deletion) after the call. Cancel frees it.
	Watch(key string) (changed <-chan struct{}, cancel func())
}
