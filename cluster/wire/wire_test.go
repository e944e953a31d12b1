package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"carillon/blobstore"
)

func drawInfo(t *rapid.T) blobstore.Info {
	at := func(name string) time.Time {
		return time.UnixMilli(rapid.Int64Range(-1<<40, 1<<42).Draw(t, name)).UTC()
	}
	i := blobstore.Info{
		Spec: blobstore.Spec{Live: rapid.Bool().Draw(t, "live"), Created: at("created")},
		Size: rapid.Int64Min(0).Draw(t, "size"), Sealed: rapid.Bool().Draw(t, "sealed"), Updated: at("updated"),
		Totals: blobstore.Totals{Size: rapid.Int64Min(0).Draw(t, "total"), Root: rapid.Uint32().Draw(t, "root")},
	}
	copy(i.ID[:], rapid.SliceOfN(rapid.Byte(), len(i.ID), len(i.ID)).Draw(t, "id"))
	copy(i.Totals.SHA256[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "sha256"))
	return i
}

// TestThereAndBack writes one of everything, reads it again, and expects that no
// part of it is all of it.
func TestThereAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "text"))
		short := rapid.SliceOfN(rapid.Byte(), 0, 256).Draw(t, "short")
		number, size := rapid.Uint64().Draw(t, "number"), rapid.Int64Min(0).Draw(t, "size")
		signed, yes := rapid.Int64().Draw(t, "signed"), rapid.Bool().Draw(t, "yes")
		info := drawInfo(t)
		b := AppendBytes(AppendText(nil, text), short)
		b = binary.AppendVarint(AppendInt(AppendUint(b, number), size), signed)
		whole := append(AppendInfo(append(b, Flag(yes)), info), info.ID[:]...)

		d := NewDecoder(whole)
		same := d.Text() == text && bytes.Equal(d.Short(), short) && d.Uvarint() == number &&
			d.Size() == size && d.Varint() == signed && d.Bool() == yes
		got := d.Info()
		if diff := cmp.Diff(info, got); diff != "" || !same || d.ID() != info.ID || d.More() || d.End() != nil {
			t.Fatalf("read as something else: %v, %v, %s", same, d.End(), diff)
		}

		d = NewDecoder(whole[:rapid.IntRange(0, len(whole)-1).Draw(t, "cut")])
		d.Text()
		d.Short()
		d.Uvarint()
		d.Size()
		d.Varint()
		d.Bool()
		d.Info()
		d.ID()
		if err := d.End(); !errors.Is(err, ErrMalformed) || d.More() || len(d.Rest()) != 0 {
			t.Fatalf("a part: %v, %d bytes left", err, len(d.Rest()))
		}
	})
}

// TestMalformed reads what nobody writes. After the first error all is zero.
func TestMalformed(t *testing.T) {
	long := binary.AppendUvarint(nil, 1<<62)
	for name, read := range map[string]func(*Decoder){
		"too many":        func(d *Decoder) { d.Count(10) },
		"too long":        func(d *Decoder) { d.Bytes(10) },
		"longer than all": func(d *Decoder) { d.Bytes(1 << 62) },
		"negative":        func(d *Decoder) { d.Take(-1) },
		"trailing":        func(d *Decoder) { d.Take(1) },
		"said so":         func(d *Decoder) { d.Fail("this"); d.Fail("that") },
	} {
		d := NewDecoder(long)
		read(d)
		if err := d.End(); !errors.Is(err, ErrMalformed) || d.More() {
			t.Errorf("%s: %v", name, err)
		}
		if n, p := d.Uvarint(), d.Take(1<<40); n != 0 || len(p) > 64 || !bytes.Equal(p, make([]byte, len(p))) {
			t.Errorf("%s: after the error %d, %x", name, n, p)
		}
	}
	if d := NewDecoder(binary.AppendUvarint(nil, 1<<63)); d.Size() != 0 || d.End() == nil {
		t.Error("a size beyond int64 is taken")
	}
	if d := NewDecoder([]byte{0}); d.Count(0) != 0 || d.End() != nil {
		t.Error("none of nothing is refused")
	}
}

// FuzzInfo feeds anything to the reader of a blob's Info: what it accepts is
// read the same from what is written for it.
func FuzzInfo(f *testing.F) {
	f.Add(AppendInfo(nil, blobstore.Info{ID: blobstore.ID{1}, Size: 3, Sealed: true}))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := NewDecoder(b)
		info := d.Info()
		if d.End() != nil {
			return
		}
		again := NewDecoder(AppendInfo(nil, info))
		if got := again.Info(); again.End() != nil || !cmp.Equal(info, got) {
			t.Fatalf("%v: %s", again.End(), cmp.Diff(info, got))
		}
	})
}
