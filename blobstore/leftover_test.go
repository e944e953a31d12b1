package blobstore

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestLeftover opens a database beside the empty files that a power cut leaves
// of a write-ahead and a value-log file.
func TestLeftover(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "blobs")
	log := slog.New(slog.DiscardHandler)
	s, err := OpenStore(StoreConfig{Dir: dir}, log)
	if err != nil {
		t.Fatal(err)
	}
	id, body := NewID(), bytes.Repeat([]byte{7}, 10_000)
	now := time.Now()
	op := Op{Kind: OpPut, ID: id, Spec: Spec{Created: now}, Data: body, Totals: TotalsOf(body), At: now}
	if err := s.Apply([]Op{op})[0]; err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"00099.mem", "000099.vlog"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if s, err = OpenStore(StoreConfig{Dir: dir}, log); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if info, err := s.Stat(t.Context(), id); err != nil || info.Size != int64(len(body)) {
		t.Errorf("blob after that: %+v, %v", info, err)
	}
}
