package blobstore

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"
)

// Limits of the catalog.
const (
	// KeyBytesMax bounds a row's key: an account, an id of 255 bytes that
	// escaping may triple, and a prefix.
	KeyBytesMax = 1 << 10
	// RowBytesMax bounds a row's value. Documents are small; what is larger
	// belongs into a blob.
	RowBytesMax = 64 << 10
	// TxnOpsMax bounds the operations of one Txn, conditions included. A cluster
	// adds one to a Txn that refers to a blob.
	TxnOpsMax = 256
	// appendedKeyBytes is what an appended row's key has behind its prefix: 16
	// hexadecimal digits of the position, a slash, two of the number.
	appendedKeyBytes = 16 + 1 + 2
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
	// Weight is how many bytes the row stands for, as a document does for its
	// sound. The store sums it up, see Catalog.
	Weight uint64
}

// AppendedKey is the key that the n-th row of Txn.Append gets when its
// transaction is applied at the log position revision: keys of one prefix
// sort by position, then by their order in the transaction.
func AppendedKey(prefix string, revision uint64, n int) string {
	return fmt.Sprintf("%s%016x/%02x", prefix, revision, n)
}

// ParseAppendedKey takes apart what AppendedKey made. It returns ErrFormat.
func ParseAppendedKey(prefix, key string) (revision uint64, n int, err error) {
	rest, ok := strings.CutPrefix(key, prefix)
	if ok && len(rest) == appendedKeyBytes && rest[16] == '/' {
		var small uint64
		revision, err = strconv.ParseUint(rest[:16], 16, 64)
		if err == nil {
			small, err = strconv.ParseUint(rest[17:], 16, 8)
		}
		if n = int(small); err == nil && AppendedKey(prefix, revision, n) == key {
			return revision, n, nil
		}
	}
	return 0, 0, fmt.Errorf("appended key %q: %w", key, ErrFormat)
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
//
// Append adds rows to sequences: the Key of such a row is a prefix, to which
// the store appends the position, see [AppendedKey]. What is appended needs no
// condition, meets no other writer, and lies in the order of the log.
//
// Sound, if set, is stored before the rows show, see [Catalog].Commit.
//
// ID names the commit for those who may have to make it again, as they cannot
// know what became of it: of all commits with one ID the first is applied, and
// the others have its outcome, whatever they hold, until some thousand other
// commits are applied. Zero: it is not made again.
type Txn struct {
	ID     [16]byte
	If     []Cond
	Put    []Row
	Delete []string
	Append []Row
	// Urgent is for whoever decides what a disk that is nearly full still takes:
	// a recording needs this. It is no part of the change.
	Urgent bool
	// Frees says that it makes room, as every change that deletes rows does: it
	// is taken however full a disk is.
	Frees bool
	Sound *Sound
}

// Sound is a whole blob of at most ChunkBytesMax that travels with the rows
// that refer to it. Data is not kept after Commit has returned.
type Sound struct {
	ID     ID
	Spec   Spec
	Data   []byte
	Totals Totals
}

// Check returns ErrTooLarge or ErrCorrupt for what no store would take: size
// and checksum are those that the replicas compare (the digest is the
// Recorder's word).
func (s *Sound) Check() error {
	if s.ID.IsZero() {
		return fmt.Errorf("sound without an id: %w", ErrBadID)
	}
	if len(s.Data) > ChunkBytesMax {
		return fmt.Errorf("sound of %d bytes: %w", len(s.Data), ErrTooLarge)
	}
	var sum RootSum
	_, _ = sum.Write(s.Data) // never fails
	if sum.Size() != s.Totals.Size || sum.Sum32() != s.Totals.Root {
		return fmt.Errorf("sound of %d bytes, root %08x; sealed as %d, %08x: %w",
			sum.Size(), sum.Sum32(), s.Totals.Size, s.Totals.Root, ErrCorrupt)
	}
	return nil
}

// Op is the operation that stores the sound. It has no log position: nothing
// else ever happens to such a blob but its removal.
func (s *Sound) Op(at time.Time) Op {
	return Op{Kind: OpPut, ID: s.ID, Spec: s.Spec, Data: s.Data, Totals: s.Totals, At: at}
}

// Catalog is the replicated table of small rows: documents, recordings,
// references. Reads are local and never wait. All methods may be called
// concurrently.
type Catalog interface {
	// Get returns the row as this node knows it, or ErrNotFound. The value may
	// be kept but not changed. ErrUnavailable, as from Scan and Tally: the rows of
	// this node are damaged, and being fetched anew.
	Get(ctx context.Context, key string) (Row, error)
	// Scan yields the rows with the prefix whose key is greater than after, in
	// order, from one consistent view. Stop early by breaking the loop.
	Scan(ctx context.Context, prefix, after string) iter.Seq2[Row, error]
	// Commit applies txn on a majority, durably, and returns its log position.
	// When it returns, a Get on this node sees it. ErrConflict: a condition
	// did not hold and nothing was written. ErrUnavailable or ctx.Err(): it
	// may have happened or not. A commit is never applied twice.
	//
	// A Txn's Sound is on the shelf, on a majority and durably, when its rows
	// can be seen, whether that took one step or two. When the commit fails the
	// blob may be there without a reference, and is swept like any other.
	Commit(ctx context.Context, txn Txn) (revision uint64, err error)
	// Fresh returns once this node has applied everything that was committed
	// before the call (promise 4: play your own write), or ErrUnavailable.
	Fresh(ctx context.Context) error
	// Applied is the log position this node has applied.
	Applied() uint64
	// Tally is what the rows of a class come to on this node, without reading
	// them. A class is a key's part up to its first slash ("m1/"), or, of rows
	// that have a weight only, up to its second ("m1/acme/"); "": all rows.
	Tally(ctx context.Context, class string) (Tally, error)
	// Watch returns a channel that is closed when the row changes (also by
	// deletion) after the call, and, for the prefix of a sequence, when a row
	// is appended to it. Cancel frees it.
	Watch(key string) (changed <-chan struct{}, cancel func())
}
