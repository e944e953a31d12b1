package storetest

import (
	"log/slog"
	"testing"

	"carillon/blobstore"
)

// One disk is the reference.
func TestLocal(t *testing.T) {
	l, err := blobstore.OpenLocal(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	Run(t, func(*testing.T) (blobstore.Writer, blobstore.Shelf, blobstore.Catalog) { return l, l, l })
}
