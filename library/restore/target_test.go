package restore

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"carillon/blobstore"
	"carillon/library/backup"
	"carillon/library/fault"
	"carillon/library/libtest"
	"carillon/library/playtoken"
	"carillon/library/rows"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newCluster is a cluster of one store, both ways.
func newCluster(t *testing.T) (backup.Source, Target) {
	t.Helper()
	local := libtest.OpenStore(t, t.TempDir())
	catalog := rows.Store{Catalog: local}
	return backup.Source{Catalog: catalog, Shelf: local}, Target{
		Catalog: catalog, Shelf: local, Writer: local, Buffers: blobstore.NewBuffers(),
		Holdings: []string{"m1/"}, Log: slog.New(slog.DiscardHandler),
	}
}

// rowsOf are the rows of a backup, and its position.
func rowsOf(t *testing.T, from backup.Source, since uint64) (found []backup.Row, position uint64) {
	t.Helper()
	all, last := from.Rows(t.Context(), since)
	for row, err := range all {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, row)
	}
	return found, *last
}

func put(t *testing.T, to Target, key, value string) {
	t.Helper()
	libtest.Commit(t, to.Catalog, func(c *rows.Change) { c.Put(key, []byte(value)) })
}

// TestRows: what one cluster has another gets, once, and nothing that means
// something in its own only; what has not changed goes without its value.
func TestRows(t *testing.T) {
	t.Parallel()
	from, filled := newCluster(t)
	_, to := newCluster(t)
	put(t, filled, "m1/acme/a", "one")
	_, before := rowsOf(t, from, 0)
	put(t, filled, "m1/acme/b", "")
	for _, key := range []string{playtoken.KeyRow, backup.RestoreKey, "z1/reap", "e1/x"} {
		put(t, filled, key, "own")
	}
	later, _ := rowsOf(t, from, before)
	if len(later) != 2 || later[0].Value != nil || later[1].Value == nil {
		t.Fatalf("rows since %d: %+v", before, later)
	}
	all, position := rowsOf(t, from, 0)
	if len(all) != 2 || position <= all[1].Revision {
		t.Fatalf("rows to %d: %+v", position, all)
	}
	restored := func(what string, merge bool, want Report, wantErr error) {
		t.Helper()
		got, err := to.Rows(t.Context(), all, merge)
		libtest.WantErr(t, what, err, wantErr)
		if err == nil {
			libtest.Equal(t, what, got, want)
		}
	}
	restored("first", false, Report{Written: 2}, nil)
	restored("again", false, Report{Skipped: 2}, nil)
	put(t, to, "m1/acme/b", "changed")
	restored("over a change", false, Report{}, fault.ErrExists)
	restored("beside a change", true, Report{Skipped: 2}, nil)
	all = []backup.Row{{Key: playtoken.KeyRow, Value: []byte("stolen")}}
	restored("a row of another cluster's own", true, Report{}, fault.ErrBadRequest)
	all = make([]backup.Row, rowsMax+1)
	restored("too many", true, Report{}, fault.ErrBadRequest)
}

// TestBegin: a restore goes into an empty cluster or into what it has begun to
// fill, and one at a time.
func TestBegin(t *testing.T) {
	t.Parallel()
	_, to := newCluster(t)
	for _, c := range []struct {
		what, source string
		merge, again bool
		want         error
	}{
		{"without a name", "", false, false, fault.ErrBadRequest},
		{"first", "one@1", false, false, nil},
		{"again", "one@1", false, true, nil},
		{"another meanwhile", "one@2", true, false, fault.ErrExists},
	} {
		again, err := to.Begin(t.Context(), c.source, c.merge)
		libtest.WantErr(t, c.what, err, c.want)
		if err == nil {
			libtest.Equal(t, c.what+" was begun", again, c.again)
			put(t, to, "m1/acme/a", "restored")
		}
	}
	libtest.WantErr(t, "end", to.End(t.Context()), nil)
	libtest.WantErr(t, "end again", to.End(t.Context()), nil)
	_, err := to.Begin(t.Context(), "one@2", false)
	libtest.WantErr(t, "begin where there is something", err, fault.ErrExists)
	_, err = to.Begin(t.Context(), "one@2", true)
	libtest.WantErr(t, "begin beside it", err, nil)
}

// TestBlobs: a blob comes back under its id with its bytes or not at all; one
// that was being recorded with what there was of it.
func TestBlobs(t *testing.T) {
	t.Parallel()
	from, filled := newCluster(t)
	_, to := newCluster(t)
	const sound = "as it sounds"
	sealed := blobstore.NewRecorder(t.Context(), filled.Writer, blobstore.RecorderConfig{})
	if _, err := sealed.Write([]byte(sound)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := sealed.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	live := blobstore.NewID()
	libtest.WantErr(t, "begin", filled.Writer.Begin(t.Context(), live, blobstore.Spec{Live: true}), nil)
	libtest.WantErr(t, "append", filled.Writer.Append(t.Context(), live, 0, []byte(sound)), nil)
	for _, id := range []string{sealed.ID().String(), live.String()} {
		r := libtest.Must[*blobstore.Reader](t)(from.Blob(t.Context(), id))
		spec := backup.BlobOf(r.Info())
		libtest.WantErr(t, "close", r.Close(), nil)
		has := func(what string, want bool) {
			t.Helper()
			got, err := to.Has(t.Context(), spec)
			libtest.WantErr(t, what, err, nil)
			libtest.Equal(t, what, got, want)
		}
		has("there before", false)
		if spec.Sealed {
			err := to.Blob(t.Context(), spec, strings.NewReader(sound+"!"))
			libtest.WantErr(t, "other bytes", err, fault.ErrIncomplete)
			has("there after other bytes", false)
		}
		libtest.WantErr(t, "restore", to.Blob(t.Context(), spec, strings.NewReader(sound)), nil)
		has("there afterwards", true)
		back := libtest.Must[*blobstore.Reader](t)(backup.Source{Shelf: to.Shelf}.Blob(t.Context(), id))
		got := make([]byte, len(sound))
		_, err := io.ReadFull(back, got)
		if err != nil || !bytes.Equal(got, []byte(sound)) {
			t.Errorf("restored %q, %v", got, err)
		}
		libtest.WantErr(t, "close", back.Close(), nil)
		if spec.Sealed {
			spec.SHA256 = strings.Repeat("0", len(spec.SHA256))
			_, err = to.Has(t.Context(), spec)
			libtest.WantErr(t, "another digest", err, blobstore.ErrConflict)
		}
	}
	_, err := from.Blob(t.Context(), blobstore.NewID().String())
	libtest.WantErr(t, "a blob that is not there", err, fault.ErrNotFound)
}
