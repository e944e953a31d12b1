package snapshot

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"slices"
	"testing"
	"time"

	"carillon/blobstore"
)

func openBlobs(t *testing.T) *blobstore.Store {
	t.Helper()
	s, err := blobstore.OpenStore(blobstore.StoreConfig{Dir: t.TempDir()}, slog.New(slog.DiscardHandler))
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

// TestManifest writes the list of a group, reads it back, and refuses it with
// any byte cut off or changed.
func TestManifest(t *testing.T) {
	store := openBlobs(t)
	var want []blobstore.Info
	for i := range 20 {
		id := blobstore.NewID()
		id[0] = byte(i % 2)
		op := blobstore.Op{
			Kind: blobstore.OpBegin, ID: id, At: time.Now(),
			Spec: blobstore.Spec{Live: i%3 == 0, Created: time.UnixMilli(int64(i) * 1000).UTC()},
		}
		if err := errors.Join(store.Apply([]blobstore.Op{op})...); err != nil {
			t.Fatal(err)
		}
		if id[0] == 0 {
			want = append(want, blobstore.Info{ID: id, Spec: op.Spec})
		}
	}
	slices.SortFunc(want, func(a, b blobstore.Info) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	var file bytes.Buffer
	if err := WriteManifest(&file, store, func(id blobstore.ID) bool { return id[0] == 0 }); err != nil {
		t.Fatal(err)
	}
	got, err := readManifest(file.Bytes())
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d entries, %v; want %d", len(got), err, len(want))
	}
	for i := range got {
		if got[i].ID != want[i].ID || got[i].Spec != want[i].Spec {
			t.Errorf("entry %d: %+v, want %+v", i, got[i], want[i])
		}
	}
	for i := range file.Len() {
		if _, err := readManifest(file.Bytes()[:i]); err == nil {
			t.Fatalf("%d of %d bytes are accepted", i, file.Len())
		}
		bad := bytes.Clone(file.Bytes())
		bad[i] ^= 0x10
		if _, err := readManifest(bad); err == nil {
			t.Fatalf("byte %d changed and accepted", i)
		}
	}
}

func readManifest(b []byte) ([]blobstore.Info, error) {
	m, err := OpenManifest(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	var out []blobstore.Info
	for {
		info, err := m.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		out = append(out, info)
	}
}

// FuzzManifest reads anything: an error or a list, never a panic.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(manifestMagic + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte(manifestMagic + "\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := readManifest(b)
		if err == nil && len(b) < len(list)*entryBytes {
			t.Fatalf("%d entries out of %d bytes", len(list), len(b))
		}
	})
}
