package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"carillon/blobstore"
	"carillon/library"
	"carillon/library/backup"
	"carillon/library/restore"
)

// fakeCluster is a catalog and blobs in memory, with failures on demand.
type fakeCluster struct {
	rows     map[string]backup.Row
	blobs    map[string][]byte
	open     map[string]bool // not sealed
	position uint64
	fetches  atomic.Int64
	breakAt  int64 // every so many fetches break off in the middle; 0: none
	source   string
	order    []uint64
	arriving sync.Mutex // guards blobs and open while several blobs arrive at once
}

func newFakeCluster() *fakeCluster {
	return &fakeCluster{
		rows: map[string]backup.Row{}, blobs: map[string][]byte{}, open: map[string]bool{},
	}
}

// item stores an item with its blob in one commit.
func (f *fakeCluster) item(name string, body []byte) {
	id := blobstore.NewID().String()
	f.blobs[id] = body
	f.position++
	f.put("m1/"+name, id)
	f.put(blobstore.RefPrefix+id+"/m1/"+name, "")
}

func (f *fakeCluster) put(key, value string) {
	f.rows[key] = backup.Row{Key: key, Revision: f.position, Value: []byte(value)}
}

func (f *fakeCluster) HoldBackup(context.Context, string) (backup.Hold, error) {
	return backup.Hold{ID: "h"}, nil
}
func (f *fakeCluster) ReleaseBackup(context.Context, string) error { return nil }
func (f *fakeCluster) EndRestore(context.Context) error            { return nil }

func (f *fakeCluster) BackupRows(_ context.Context, since uint64) (
	iter.Seq2[backup.Row, error], *uint64,
) {
	position := new(uint64)
	return func(yield func(backup.Row, error) bool) {
		for _, key := range slices.Sorted(maps.Keys(f.rows)) {
			row := f.rows[key]
			if row.Revision <= since {
				row.Value = nil
			}
			if !yield(row, nil) {
				return
			}
		}
		*position = f.position
	}, position
}

func (f *fakeCluster) BackupBlob(_ context.Context, id string, offset int64) (
	backup.Blob, io.ReadCloser, error,
) {
	body, ok := f.blobs[id]
	if !ok {
		return backup.Blob{}, nil, library.ErrNotFound
	}
	fetch := f.fetches.Add(1)
	spec := backup.Blob{ID: id, Size: int64(len(body)), Sealed: !f.open[id], Live: f.open[id]}
	if spec.Sealed {
		sum := sha256.Sum256(body)
		spec.SHA256 = hex.EncodeToString(sum[:])
	}
	var r io.Reader = bytes.NewReader(body[offset:])
	if f.breakAt > 0 && fetch%f.breakAt == 0 {
		r = io.MultiReader(io.LimitReader(r, (spec.Size-offset)/2), errReader{})
	}
	return spec, io.NopCloser(r), nil
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("cut off") }

func (f *fakeCluster) BeginRestore(_ context.Context, source string, merge bool) (
	restore.Begun, error,
) {
	if len(f.rows) > 0 && f.source != source && !merge {
		return restore.Begun{}, library.ErrExists
	}
	again := f.source == source
	f.source = source
	return restore.Begun{Again: again}, nil
}

func (f *fakeCluster) RestoreBlob(_ context.Context, spec backup.Blob, body io.Reader) (bool, error) {
	b, err := io.ReadAll(body)
	f.arriving.Lock()
	defer f.arriving.Unlock()
	sum := sha256.Sum256(b)
	if err == nil && hex.EncodeToString(sum[:]) != spec.SHA256 {
		err = library.ErrIncomplete
	}
	if err != nil {
		return false, err
	}
	f.blobs[spec.ID], f.open[spec.ID] = b, !spec.Sealed
	return true, nil
}

func (f *fakeCluster) RestoreRows(_ context.Context, rows []backup.Row, _ bool) (
	restore.Report, error,
) {
	for _, r := range rows {
		f.order = append(f.order, r.Revision)
		f.rows[r.Key] = r
	}
	return restore.Report{Written: len(rows)}, nil
}

// TestGenerations takes backups of a cluster that changes, restores each, and
// drops the first.
func TestGenerations(t *testing.T) {
	c := newFakeCluster()
	c.breakAt = 3
	for i := range 7 {
		c.item(fmt.Sprintf("a/%d", i), bytes.Repeat([]byte{byte(i)}, 1000*i))
	}
	c.item("a/\x00not ü \xff", []byte("odd key"))
	c.put("s1/empty", "")
	dir, err := OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	take := func(keep int) (Generation, map[string]backup.Row) {
		t.Helper()
		g, err := dir.Take(t.Context(), c, "cafe", keep, nil)
		if err != nil {
			t.Fatal(err)
		}
		return g, maps.Clone(c.rows)
	}
	first, firstRows := take(0)
	if first.Blobs != 8 || first.Fetched != 8 || first.Changed != first.Rows {
		t.Errorf("first: %+v", first)
	}
	for key := range c.rows { // an item goes, with its reference
		if key == "m1/a/3" || strings.HasSuffix(key, "/m1/a/3") {
			delete(c.rows, key)
		}
	}
	c.item("b/new", []byte("new"))
	second, secondRows := take(0)
	if second.Deleted != 2 || second.Changed != 2 || second.Fetched != 1 || second.Blobs != 8 {
		t.Errorf("second: %+v", second)
	}
	for _, want := range []struct {
		g    Generation
		rows map[string]backup.Row
	}{{first, firstRows}, {second, secondRows}} {
		to := newFakeCluster()
		if _, err := dir.Restore(t.Context(), to, want.g, false, nil); err != nil {
			t.Fatal(err)
		}
		same := func(a, b backup.Row) bool {
			return a.Revision == b.Revision && bytes.Equal(a.Value, b.Value)
		}
		if !maps.EqualFunc(to.rows, want.rows, same) || !slices.IsSorted(to.order) {
			t.Errorf("generation %d restored as %v in order %v", want.g.Position, to.rows, to.order)
		}
	}
	report, err := dir.Verify(t.Context(), dir.Generations(), nil)
	if err != nil || report.Damaged != 0 || report.Blobs != 16 {
		t.Errorf("verify: %+v %v", report, err)
	}
	if dir, err = OpenDir(dir.path); err != nil || len(dir.Generations()) != 2 {
		t.Fatalf("opened again: %+v %v", dir, err)
	}
	third, _ := take(1)
	if report, err = dir.Verify(t.Context(), dir.Generations(), nil); err != nil || report.Damaged != 0 ||
		report.Blobs != 8 || third.Fetched != 0 {
		t.Errorf("after the prune: %+v %v, third %+v", report, err, third)
	}
	if _, err := dir.Take(t.Context(), c, "beef", 0, nil); !errors.Is(err, ErrForeign) {
		t.Errorf("backup of another cluster: %v", err)
	}
}

// TestOpenBlobGrows backs a live recording up while it grows: both backups hold
// what there was.
func TestOpenBlobGrows(t *testing.T) {
	c := newFakeCluster()
	c.item("a/live", []byte("what there was"))
	var id string
	for id = range c.blobs {
	}
	c.open[id] = true
	dir, err := OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if g, err := dir.Take(t.Context(), c, "cafe", 0, nil); err != nil || g.Open != int64(1-i) {
			t.Fatalf("%+v %v", g, err)
		}
		c.position++
		c.put("s1/something", "else")
		c.blobs[id], c.open[id] = append(c.blobs[id], " and more"...), false
	}
	report, err := dir.Verify(t.Context(), dir.Generations(), nil)
	if err != nil || report.Damaged != 0 {
		t.Errorf("verify: %+v %v", report, err)
	}
	to := newFakeCluster()
	if _, err := dir.Restore(t.Context(), to, dir.Generations()[0], false, nil); err != nil ||
		string(to.blobs[id]) != "what there was" || !to.open[id] {
		t.Errorf("restored %q open %v: %v", to.blobs[id], to.open[id], err)
	}
}
