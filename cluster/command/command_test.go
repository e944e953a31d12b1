package command

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"carillon/blobstore"
	"carillon/cluster/wire"
)

// sampleOps is one of each operation with every field set.
func sampleOps() []blobstore.Op {
	at := sampleTime()
	spec := blobstore.Spec{Live: true, Created: at}
	totals := blobstore.Totals{Size: 300, SHA256: blobstore.Digest{1, 2, 3}, Root: 0xdeadbeef}
	id := func(b byte) blobstore.ID { return blobstore.ID{b, 0xff} }
	return []blobstore.Op{
		{Kind: blobstore.OpBegin, ID: id(1), Spec: spec, At: at},
		{Kind: blobstore.OpAppend, ID: id(2), Offset: 1 << 30, Data: []byte("piece"), At: at},
		{Kind: blobstore.OpSeal, ID: id(3), Totals: totals, At: at},
		{
			Kind: blobstore.OpPut, ID: id(4), Spec: blobstore.Spec{Created: at}, Totals: totals,
			Data: []byte("whole"), At: at,
		},
		{Kind: blobstore.OpRemove, ID: id(5), At: at},
	}
}

func sampleTime() time.Time { return time.UnixMilli(1_764_000_000_123).UTC() }

func sampleTxn() blobstore.Txn {
	return blobstore.Txn{
		If:     []blobstore.Cond{{Key: "a"}, {Key: "b", Revision: 1 << 50}},
		Put:    []blobstore.Row{{Key: "c", Value: []byte("value"), Weight: 1 << 40}, {Key: "d"}},
		Delete: []string{"e"},
		Append: []blobstore.Row{{Key: "f/", Value: []byte("event")}},
	}
}

// plainTxn is what could be said in version 1 of a transaction.
func plainTxn() blobstore.Txn {
	t := sampleTxn()
	t.Put[0].Weight, t.Append = 0, nil
	return t
}

// carryTxn is a transaction that brings its sound.
func carryTxn() blobstore.Txn {
	t := sampleTxn()
	t.Sound = &blobstore.Sound{
		ID: blobstore.ID{4, 0xff}, Spec: blobstore.Spec{Created: sampleTime()}, Data: []byte("whole"),
		Totals: blobstore.Totals{Size: 300, SHA256: blobstore.Digest{1, 2, 3}, Root: 0xdeadbeef},
	}
	return t
}

// TestCommandFormat compares today's encoding with the files written when the
// format was made, and reads those files: an old log must stay readable.
// Run with CARILLON_WRITE_GOLDEN=1 only when an operation is added, never when one changes.
func TestCommandFormat(t *testing.T) {
	for name, now := range map[string][]byte{
		"blobs-v1.bin": EncodeBlobs(FormatMax, sampleOps()),
		"txn-v2.bin":   EncodeTxn(FormatMax, TxnID{9, 8, 7}, sampleTxn()),
		"carry-v1.bin": EncodeCarry(FormatMax, TxnID{9, 8, 7}, carryTxn(), sampleTime()),
	} {
		path := filepath.Join("testdata", name)
		if os.Getenv("CARILLON_WRITE_GOLDEN") != "" {
			if err := os.WriteFile(path, now, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		golden, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(golden, now) {
			t.Errorf("%s: the format has changed:\n%x\n%x", name, golden, now)
		}
	}
	golden, err := os.ReadFile("testdata/blobs-v1.bin")
	if err != nil {
		t.Fatal(err)
	}
	ops, err := DecodeBlobs(golden, FormatMax)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(sampleOps(), ops, cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
	for name, want := range map[string]blobstore.Txn{"txn-v1.bin": plainTxn(), "txn-v2.bin": sampleTxn()} {
		golden, err = os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		c, err := DecodeCatalog(golden, FormatMax)
		if err != nil || c.ID != (TxnID{9, 8, 7}) || len(c.Sound) != 0 {
			t.Fatal(name, c.ID, err)
		}
		if d := cmp.Diff(want, c.Txn, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// TestCommandVersion expects a clear refusal of a newer format.
func TestCommandVersion(t *testing.T) {
	b := EncodeBlobs(FormatMax, sampleOps())
	b[0]++
	if _, err := DecodeBlobs(b, FormatMax); !errors.Is(err, blobstore.ErrFormat) {
		t.Errorf("newer version: %v, want ErrFormat", err)
	}
	if _, err := DecodeCatalog(EncodeBlobs(FormatMax, nil), FormatMax); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("blobs read as a transaction: %v, want ErrMalformed", err)
	}
}

// TestCommandCut expects that no prefix of a command is a command.
func TestCommandCut(t *testing.T) {
	for _, whole := range [][]byte{
		EncodeBlobs(FormatMax, sampleOps()), EncodeTxn(FormatMax, TxnID{}, sampleTxn()),
		EncodeCarry(FormatMax, TxnID{}, carryTxn(), sampleTime()),
	} {
		for n := range whole {
			if ops, err := DecodeBlobs(whole[:n], FormatMax); err == nil && len(ops) == len(sampleOps()) {
				t.Fatalf("%d of %d bytes are accepted as blobs", n, len(whole))
			}
			if _, err := DecodeCatalog(whole[:n], FormatMax); err == nil {
				t.Fatalf("%d of %d bytes are accepted as a transaction", n, len(whole))
			}
		}
	}
}

// TestCommandRoundTrip encodes and decodes any operations.
func TestCommandRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ops []blobstore.Op
		for range rapid.IntRange(0, 5).Draw(t, "n") {
			op := rapid.SampledFrom(sampleOps()).Draw(t, "op")
			if op.Data != nil {
				op.Data = rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "data")
			}
			if op.Kind == blobstore.OpAppend {
				op.Offset = rapid.Int64Range(0, 1<<39).Draw(t, "offset")
			}
			ops = append(ops, op)
		}
		got, err := DecodeBlobs(EncodeBlobs(FormatMax, ops), FormatMax)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(ops, got, cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
	})
}

// FuzzCommand feeds anything to both decoders: they must refuse or accept, and
// what they accept must encode to the same meaning again.
func FuzzCommand(f *testing.F) {
	f.Add(EncodeBlobs(FormatMax, sampleOps()))
	f.Add(EncodeTxn(FormatMax, TxnID{1}, sampleTxn()))
	f.Add(EncodeCarry(FormatMax, TxnID{1}, carryTxn(), sampleTime()))
	f.Add([]byte{1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		if ops, err := DecodeBlobs(b, FormatMax); err == nil {
			again, err := DecodeBlobs(EncodeBlobs(FormatMax, ops), FormatMax)
			if err != nil || !cmp.Equal(ops, again, cmpopts.EquateEmpty()) {
				t.Fatalf("%v: %s", err, cmp.Diff(ops, again))
			}
		}
		c, err := DecodeCatalog(b, FormatMax)
		if err != nil {
			return
		}
		again, err := DecodeCatalog(encodeAgain(c), FormatMax)
		if err != nil || c.ID != again.ID || !cmp.Equal(c.Txn, again.Txn, cmpopts.EquateEmpty()) ||
			!cmp.Equal(c.Sound, again.Sound, cmpopts.EquateEmpty()) {
			t.Fatalf("%v: %s%s", err, cmp.Diff(c.Txn, again.Txn), cmp.Diff(c.Sound, again.Sound))
		}
	})
}

// encodeAgain makes the command that was decoded to c.
func encodeAgain(c Catalog) []byte {
	if len(c.Sound) == 0 {
		return EncodeTxn(FormatMax, c.ID, c.Txn)
	}
	op := c.Sound[0]
	c.Txn.Sound = &blobstore.Sound{ID: op.ID, Spec: op.Spec, Data: op.Data, Totals: op.Totals}
	return EncodeCarry(FormatMax, c.ID, c.Txn, op.At)
}

// TestCommandCarries expects a sound to come out as it went in.
func TestCommandCarries(t *testing.T) {
	want := carryTxn()
	c, err := DecodeCatalog(EncodeCarry(FormatMax, TxnID{7}, want, sampleTime()), FormatMax)
	if err != nil || c.ID != (TxnID{7}) {
		t.Fatal(c.ID, err)
	}
	if d := cmp.Diff([]blobstore.Op{want.Sound.Op(sampleTime())}, c.Sound, cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
	want.Sound = nil
	if d := cmp.Diff(want, c.Txn, cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
}
