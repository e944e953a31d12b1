package ring_test

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"carillon/internal/ring"
)

// Goal: what is in the span is what was appended, whatever the sizes.
func TestRing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 64).Draw(t, "size")
		at := rapid.Int64Range(0, 1000).Draw(t, "at")
		r, all := ring.New(size, at), []byte{}
		for range rapid.IntRange(0, 20).Draw(t, "appends") {
			p := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "p")
			r.Append(p)
			all = append(all, p...)
			from, to, ended := r.Span()
			if to != at+int64(len(all)) || to-from > int64(size) || from < at || ended ||
				to-from < min(int64(size), int64(len(all))) {
				t.Fatalf("span %d to %d after %d from %d", from, to, len(all), at)
			}
			off := rapid.Int64Range(from, to).Draw(t, "off")
			got := make([]byte, 70)
			n := r.ReadAt(got, off)
			if want := all[off-at:]; !bytes.Equal(got[:n], want[:min(len(want), len(got))]) {
				t.Fatalf("at %d: %d bytes", off, n)
			}
		}
		r.End()
		if _, to, ended := r.Span(); !ended || r.ReadAt(make([]byte, 1), to) != 0 ||
			r.ReadAt(make([]byte, 1), at-1) != 0 {
			t.Fatal("the end")
		}
	})
}
