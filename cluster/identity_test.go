package cluster

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"carillon/blobstore"
	"carillon/cluster/placement"
	"carillon/cluster/statefile"
)

// testCharter has a value in every field.
func testCharter() charter {
	members := []placement.Candidate{{ID: "a1", Weight: 100}, {ID: "b2", Weight: 100}, {ID: "c3", Weight: 100}}
	c := newCharter(members, 2, 2)
	c.Format, c.LogFormat, c.Former, c.Removed = charterFormatRecovered, 1, []string{"x<y"}, []string{"d4"}
	return c
}

// TestEveryBitOfCharterAndIdentity flips each bit of both files in turn: either
// that is noticed, or it was in the white space and changed nothing.
func TestEveryBitOfCharterAndIdentity(t *testing.T) {
	dir := t.TempDir()
	id, err := loadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := testCharter()
	if err := statefile.Write(filepath.Join(dir, charterFile), c); err != nil {
		t.Fatal(err)
	}
	for name, same := range map[string]func() (bool, error){
		nodeFile:    func() (bool, error) { got, err := loadIdentity(dir); return got == id, err },
		charterFile: func() (bool, error) { got, err := loadCharter(dir); return reflect.DeepEqual(got, &c), err },
	} {
		path := filepath.Join(dir, name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		noticed := 0
		for bit := range 8 * len(whole) {
			b := append([]byte(nil), whole...)
			b[bit/8] ^= 1 << (bit % 8)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			ok, err := same()
			switch {
			case err == nil && !ok:
				t.Errorf("%s: bit %d of byte %d gives another one:\n%s", name, bit%8, bit/8, b)
			case err != nil && !errors.Is(err, statefile.ErrDamaged) && !errors.Is(err, blobstore.ErrFormat):
				t.Errorf("%s: bit %d of byte %d: %v", name, bit%8, bit/8, err)
			case err != nil:
				noticed++
			}
		}
		for size := range whole {
			if err := os.WriteFile(path, whole[:size], 0o600); err != nil {
				t.Fatal(err)
			}
			if ok, err := same(); err == nil && !ok {
				t.Errorf("%s cut at %d gives another one", name, size)
			}
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		if ok, err := same(); !ok || err != nil || noticed < 6*len(whole) {
			t.Errorf("%s: %v, %v; %d of %d bits noticed", name, ok, err, noticed, 8*len(whole))
		}
	}
}

// TestFilesOfEarlierVersions reads files without a checksum and gives them one,
// and reads ours as a version that knows of none.
func TestFilesOfEarlierVersions(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, nodeFile)
	old := "{\n  \"format\": 1,\n  \"id\": \"0123456789abcdef\"\n}"
	if err := os.WriteFile(path, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if id, err := loadIdentity(dir); err != nil || id != "0123456789abcdef" {
			t.Fatalf("identity %q: %v", id, err)
		}
	}
	b, err := os.ReadFile(path)
	var id identity
	if err = errors.Join(err, json.Unmarshal(b, &id)); err != nil || id.ID != "0123456789abcdef" ||
		!strings.Contains(string(b), "checksum") {
		t.Errorf("rewritten as %s: %v", b, err)
	}
}
