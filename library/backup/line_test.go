package backup

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestLines: a row comes back from its line as it was, whatever bytes its
// key and value have, and whether there is a value at all.
func TestLines(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := Row{
			Key:      string(rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "key")),
			Revision: rapid.Uint64().Draw(t, "revision"), Weight: rapid.Uint64().Draw(t, "weight"),
		}
		if rapid.Bool().Draw(t, "changed") {
			r.Value = append([]byte{}, rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "value")...)
		}
		text, err := json.Marshal(r.Line())
		if err != nil {
			t.Fatal(err)
		}
		var back Line
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, back.Row()); diff != "" {
			t.Fatalf("%s came back changed:\n%s", text, diff)
		}
	})
}

// FuzzBackupLine: no line makes reading panic, and the row of one that is read
// is the row of the line that is made of it.
func FuzzBackupLine(f *testing.F) {
	f.Add([]byte(`{"format":1,"since":7}`))
	f.Add([]byte(`{"k":"m1/acme/a","r":3,"w":864,"v":"AXt9"}`))
	f.Add([]byte(`{"kb":"/w==","z":true}`))
	f.Add([]byte(`{"end":true,"position":9,"rows":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var l Line
		if json.Unmarshal(text, &l) != nil {
			return
		}
		r := l.Row()
		again, err := json.Marshal(r.Line())
		if err != nil {
			t.Fatal(err)
		}
		var back Line
		if err := json.Unmarshal(again, &back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, back.Row()); diff != "" {
			t.Fatalf("%s and %s are other rows:\n%s", text, again, diff)
		}
	})
}
