package blobstore

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What decodes encodes to the same bytes, and nothing panics.
func FuzzDecodeOps(f *testing.F) {
	ops := []Op{
		{Kind: OpBegin, ID: numberedID(1), Spec: Spec{Live: true, Created: time.UnixMilli(5).UTC()}},
		{Kind: OpAppend, ID: numberedID(1), Offset: 7, Data: []byte("bytes"), At: time.UnixMilli(6).UTC()},
		{Kind: OpSeal, ID: numberedID(1), Totals: TotalsOf([]byte("x"))},
		{Kind: OpPut, ID: numberedID(2), Data: []byte("x"), Totals: TotalsOf([]byte("x"))},
		{Kind: OpRemove, ID: numberedID(3)},
	}
	if got, err := DecodeOps(AppendOps(nil, ops)); err != nil || !cmp.Equal(got, ops) {
		f.Fatalf("%v: %s", err, cmp.Diff(got, ops))
	}
	f.Add(AppendOps(nil, ops))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, p []byte) {
		ops, err := DecodeOps(p)
		if err != nil {
			return
		}
		again, err := DecodeOps(AppendOps(nil, ops))
		if err != nil || !cmp.Equal(ops, again) {
			t.Errorf("%v: %s", err, cmp.Diff(ops, again))
		}
	})
}

func FuzzDecodeTxn(f *testing.F) {
	txn := Txn{
		If:     []Cond{{"a", 1}, {"b", 1 << 60}},
		Put:    []Row{{Key: "k", Value: []byte("v"), Weight: 1 << 40}},
		Delete: []string{"d", "e"},
		Append: []Row{{Key: "s/", Value: []byte("a")}, {Key: "s/", Value: []byte("b")}},
	}
	if got, err := DecodeTxn(AppendTxn(nil, txn)); err != nil || !cmp.Equal(got, txn) {
		f.Fatalf("%v: %s", err, cmp.Diff(got, txn))
	}
	f.Add(AppendTxn(nil, txn))
	f.Add([]byte{txnVersion, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{txnVersionPlain, 0, 1, 1, 'k', 1, 'v', 0})
	f.Fuzz(func(t *testing.T, p []byte) {
		txn, err := DecodeTxn(p)
		if err != nil {
			return
		}
		again, err := DecodeTxn(AppendTxn(nil, txn))
		if err != nil || !cmp.Equal(txn, again) {
			t.Errorf("%v: %s", err, cmp.Diff(txn, again))
		}
	})
}

func appendChunk(p []byte) []byte { return append(appendChunkHead(nil, p), p...) }

func appendPiece(p []byte) []byte { return append(pieceHead(p), p...) }

// Rows of a disk that went bad: every decoder answers, within the bounds.
func FuzzDecodeRows(f *testing.F) {
	open := &meta{live: true, pos: 9, created: 1, updated: 2, ahead: []aheadChunk{{3, 4}}}
	sealed := &meta{sealed: true, totals: TotalsOf([]byte("x"))}
	sealed.sum.size = 1
	full := newPlace(appendChunkHead(nil, make([]byte, ChunkBytesMax)), 1, 2, ChunkBytesMax)
	for _, row := range [][]byte{
		open.encode(), sealed.encode(),
		appendChunk(randomBytes(1, BlockBytes+9)), appendPiece([]byte("piece")),
		outcome{txnID(1), 7, resultConflict}.encode(), progress{1, 2}.encode(), encodeRow(3, 4, []byte("v")),
		Tally{1, 2, 3, SetSum{4, 5, 6, 7}}.encode(), full.encode(),
	} {
		f.Add(row)
	}
	f.Fuzz(func(t *testing.T, row []byte) {
		if m, err := decodeMeta(row); err == nil && !bytes.Equal(m.encode(), row) {
			t.Errorf("meta %+v encodes to other bytes", m)
		}
		if c, err := viewChunk(row); err == nil {
			p := make([]byte, len(c.data))
			n, rerr := c.read(0, p)
			if cerr := c.check(); (cerr == nil) != (rerr == nil) || rerr == nil && !bytes.Equal(p[:n], c.data) {
				t.Errorf("check %v, read %d: %v", cerr, n, rerr)
			}
		}
		if p, err := viewPiece(row); err == nil && !bytes.Equal(appendPiece(p), row) {
			t.Error("piece encodes to other bytes")
		}
		if at, err := decodePlace(row); at.size > 0 && err == nil && !bytes.Equal(at.encode(), row) {
			t.Error("place encodes to other bytes")
		}
		if c, err := viewChunk(row); err == nil {
			at := newPlace(row[:len(row)-len(c.data)], 1, 2, len(c.data))
			if err := at.checkChunk(); err != nil {
				t.Errorf("head of a chunk's row: %v", err)
			}
		}
		if o, err := decodeOutcome(row); err == nil && !bytes.Equal(o.encode(), row) {
			t.Error("outcome encodes to other bytes")
		}
		if p, err := decodeProgress(row); err == nil && !bytes.Equal(p.encode(), row) {
			t.Error("progress encodes to other bytes")
		}
		if v, err := decodeTally(row); err == nil && !bytes.Equal(v.encode(), row) {
			t.Error("tally encodes to other bytes")
		}
		if r, err := decodeRow(row); err == nil && !bytes.Equal(encodeRow(r.Revision, r.Weight, r.Value), row) {
			t.Error("row encodes to other bytes")
		}
	})
}

// A snapshot is refused, or read to its end.
func FuzzReadSnapshot(f *testing.F) {
	c := filledCatalog(f, f.TempDir(), 3, "v")
	f.Add(snapshotOf(f, c))
	closeCatalog(f, c)
	f.Add([]byte(snapshotMagic))
	f.Fuzz(func(t *testing.T, p []byte) {
		rows := 0
		err := readSnapshot(bytes.NewReader(p), func(_ progress, each snapshotRows) error {
			return each(func(key, _ []byte) error {
				if len(key) < kindBytes {
					t.Errorf("row with key %q", key)
				}
				rows++
				return nil
			})
		})
		if err == nil && rows*2 > len(p) {
			t.Errorf("%d rows in %d bytes", rows, len(p))
		}
	})
}
