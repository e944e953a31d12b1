package libtest

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"carillon/blobstore"
	"carillon/library/rows"
)

// Patience is how long tests wait for a condition: a test that waits so long
// has failed.
const Patience = 30 * time.Second

// WaitFor returns when the condition holds.
func WaitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited %v in vain: %s", Patience, what)
		}
	}
}

// OpenStore opens a store in dir that is closed when the test ends.
func OpenStore(tb testing.TB, dir string) *blobstore.Local {
	tb.Helper()
	local, err := blobstore.OpenLocal(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := local.Close(); err != nil {
			tb.Error(err)
		}
	})
	return local
}

// Keys are the keys of the rows with a prefix.
func Keys(tb testing.TB, catalog blobstore.Catalog, prefix string) []string {
	tb.Helper()
	var found []string
	for row, err := range catalog.Scan(tb.Context(), prefix, "") {
		if err != nil {
			tb.Fatal(err)
		}
		found = append(found, row.Key)
	}
	return found
}

// Commit commits what fill puts into a change.
func Commit(tb testing.TB, catalog blobstore.Catalog, fill func(*rows.Change)) {
	tb.Helper()
	var c rows.Change
	fill(&c)
	txn, err := c.Done()
	if err == nil {
		_, err = catalog.Commit(tb.Context(), txn)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// Golden compares with a file under testdata that is only written when the
// environment asks for it: rows are read back by every later release.
func Golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("CARILLON_WRITE_GOLDEN") != "" {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path) //nolint:gosec // the name is the test's
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: the format has changed\n got %q\nwant %q", path, got, want)
	}
}

// WantErr says so unless got is, or wraps, want.
func WantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// Equal says so unless got is want.
func Equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// Must returns the value of a call that must not fail.
func Must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// Bounded is a context that ends after Patience, or with the test.
func Bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	return ctx
}
