package statefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

type sample struct {
	Format int      `json:"format"`
	ID     string   `json:"id"`
	Peers  []string `json:"peers,omitempty"`
}

// TestEveryBit flips each bit of a file in turn, and cuts it at each byte: either
// that is noticed, or it was in the white space and changed nothing.
func TestEveryBit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sample.json")
	written := sample{1, "0123456789abcdef", []string{"x<y", "b2"}}
	if err := Write(path, written); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	same := func(b []byte) (bool, error) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		var got sample
		err := Read(path, &got)
		return reflect.DeepEqual(got, written), err
	}
	noticed := 0
	for bit := range 8 * len(whole) {
		b := append([]byte(nil), whole...)
		b[bit/8] ^= 1 << (bit % 8)
		ok, err := same(b)
		switch {
		case err == nil && !ok:
			t.Errorf("bit %d of byte %d gives another one:\n%s", bit%8, bit/8, b)
		case err != nil && !errors.Is(err, ErrDamaged):
			t.Errorf("bit %d of byte %d: %v", bit%8, bit/8, err)
		case err != nil:
			noticed++
		}
	}
	if noticed < 6*len(whole) {
		t.Errorf("%d of %d bits noticed", noticed, 8*len(whole))
	}
	for size := range whole {
		if ok, err := same(whole[:size]); err == nil && !ok {
			t.Errorf("cut at %d gives another one", size)
		}
	}
	if ok, err := same(whole); !ok || err != nil {
		t.Errorf("as written: %v, %v", ok, err)
	}
}

// TestWithoutChecksum reads what has none: values that are no object, and files
// of earlier versions, which must hold nothing that is not known.
func TestWithoutChecksum(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sample.json")
	for _, v := range []any{"a string", []string{}, struct{}{}} {
		if err := Write(path, v); err != nil {
			t.Fatal(err)
		}
		got := reflect.New(reflect.TypeOf(v))
		if err := Read(path, got.Interface()); err != nil || !reflect.DeepEqual(got.Elem().Interface(), v) {
			t.Errorf("%v is read as %v: %v", v, got.Elem(), err)
		}
	}
	for text, want := range map[string]error{
		`{"format": 1, "id": "a"}`: nil, `{"format": 1, "ie": "a"}`: ErrDamaged,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var got sample
		if checked, err := ReadChecked(path, &got); checked || !errors.Is(err, want) {
			t.Errorf("%s: checksum %v, %v, want %v", text, checked, err, want)
		}
	}
}

// TestRemove: a file that is gone is not there, and says so.
func TestRemove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sample.json")
	if err := Write(path, sample{ID: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := Remove(path); err != nil {
		t.Fatal(err)
	}
	var got sample
	if err := Read(path, &got); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read after it was removed: %v", err)
	}
	if err := Remove(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed again: %v", err)
	}
}
