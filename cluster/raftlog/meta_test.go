package raftlog

import (
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"carillon/blobstore"
)

// copyLog copies a closed log: of each file the head, and its length.
func copyLog(t *testing.T, from, to string) {
	t.Helper()
	const head = 64 << 10 // all that these tests write
	names, err := filepath.Glob(filepath.Join(from, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		in, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(io.LimitReader(in, head))
		info, serr := in.Stat()
		path := filepath.Join(to, filepath.Base(name))
		err = errors.Join(err, serr, in.Close(), os.WriteFile(path, b, 0o600))
		if err == nil {
			err = os.Truncate(path, info.Size())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Goal: flipped bits in the meta store are seen when the log is opened, if ever: what
// raft does with it next does not panic, and no entry is lost. bbolt looks at its list
// of free pages only when it writes.
func TestDamagedMetaStore(t *testing.T) {
	whole := t.TempDir()
	s := openLog(t, whole)
	storeRange(t, s, 1, 10, 1)
	err := errors.Join(s.Set([]byte(keyVote), []byte("a node")), s.SetUint64([]byte(keyVoteTerm), 1), s.Close())
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	const rounds = 300
	for seed := range uint64(rounds) {
		dir := t.TempDir()
		copyLog(t, whole, dir)
		flipSome(t, filepath.Join(dir, "wal-meta.db"), rand.New(rand.NewPCG(seed, 0)), 1+int(seed%8))
		s, err := Open(dir, Config{}, slog.New(slog.DiscardHandler))
		if err == nil {
			if err = s.Follows(0); err != nil {
				err = errors.Join(err, s.Close())
			}
		}
		if errors.Is(err, ErrDamaged) || errors.Is(err, blobstore.ErrFormat) {
			refused++
			continue
		}
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		wantRange(t, s, 1, 10, 1)
		storeRange(t, s, 11, 12, 2)
		err = errors.Join(s.Set([]byte(keyVote), []byte("another")), s.DeleteRange(1, 5), s.Close())
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		s, err = Open(dir, Config{}, slog.New(slog.DiscardHandler))
		if errors.Is(err, ErrDamaged) {
			continue // seen later, but before anybody believes it
		}
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		wantRange(t, s, 6, 10, 1)
		wantRange(t, s, 11, 12, 2)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if refused == 0 || refused == rounds {
		t.Errorf("%d of %d refused", refused, rounds)
	}
}

// flipSome flips that many bits of a file.
func flipSome(t *testing.T, path string, r *rand.Rand, bits int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for range bits {
		b[r.IntN(len(b))] ^= 1 << r.IntN(8)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
