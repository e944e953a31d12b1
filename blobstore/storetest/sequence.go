package storetest

import (
	"strings"
	"sync"
	"testing"

	"carillon/blobstore"
)

// testAppendRows: appended rows lie in the order of the log, come with their
// commit or not at all, wake who watches their prefix, and can be read at once.
func testAppendRows(s *suite) {
	t := s.t
	p := space()
	changed, cancel := s.Watch(p + "s/")
	defer cancel()
	first, err := s.Commit(s.ctx(), blobstore.Txn{
		Put:    []blobstore.Row{{Key: p + "a", Value: []byte("1"), Weight: 7}},
		Append: []blobstore.Row{row(p+"s/", "x"), row(p+"s/", "y")},
	})
	must(t, "append", err)
	select {
	case <-changed:
	case <-s.ctx().Done():
		t.Fatal("an append was not seen")
	}
	s.wantRow(t, blobstore.AppendedKey(p+"s/", first, 0), "x", first)
	s.wantRow(t, blobstore.AppendedKey(p+"s/", first, 1), "y", first)
	if r, err := s.Get(s.ctx(), p+"a"); err != nil || r.Weight != 7 {
		t.Errorf("row weighs %d, %v", r.Weight, err)
	}
	_, err = s.Commit(s.ctx(), blobstore.Txn{
		If: []blobstore.Cond{{Key: p + "a"}}, Append: []blobstore.Row{row(p+"s/", "never")},
	})
	wantErr(t, "append under a condition", err, blobstore.ErrConflict)
	_, err = s.Commit(s.ctx(), blobstore.Txn{
		Append: []blobstore.Row{row(p+strings.Repeat("k", blobstore.KeyBytesMax-len(p)), "")},
	})
	wantErr(t, "append to a long prefix", err, blobstore.ErrTooLarge)
	second, err := s.Commit(s.ctx(), blobstore.Txn{Append: []blobstore.Row{row(p+"s/", "z")}})
	must(t, "append alone", err)
	var got []string
	for r, err := range s.Scan(s.ctx(), p+"s/", "") {
		must(t, "scan", err)
		revision, n, err := blobstore.ParseAppendedKey(p+"s/", r.Key)
		must(t, "parse", err)
		if revision != r.Revision || revision == first && n > 1 || revision == second && n != 0 {
			t.Errorf("row %q is number %d of %d, written at %d", r.Key, n, revision, r.Revision)
		}
		got = append(got, string(r.Value))
	}
	if strings.Join(got, " ") != "x y z" {
		t.Errorf("sequence is %q", got)
	}
}

// testConcurrentAppends: who follows a sequence by its watch sees every row
// once and in order, whoever writes.
func testConcurrentAppends(s *suite) {
	t := s.t
	p := space()
	const writers, each = 4, 5
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				if _, err := s.Commit(s.ctx(), blobstore.Txn{Append: []blobstore.Row{row(p, "v")}}); err != nil {
					t.Errorf("append: %v", err)
				}
			}
		})
	}
	after, seen := "", 0
	for seen < writers*each && s.ctx().Err() == nil {
		changed, cancel := s.Watch(p) // before the look
		seen += s.follow(t, p, &after)
		if seen < writers*each {
			select {
			case <-changed:
			case <-s.ctx().Done():
			}
		}
		cancel()
	}
	wg.Wait()
	if seen != writers*each {
		t.Errorf("%d rows were seen, want %d", seen, writers*each)
	}
}

// follow counts what was appended behind after, and moves it.
func (s *suite) follow(t *testing.T, prefix string, after *string) (n int) {
	t.Helper()
	for r, err := range s.Scan(s.ctx(), prefix, *after) {
		must(t, "scan", err)
		if r.Key <= *after {
			t.Errorf("row %q after %q", r.Key, *after)
		}
		*after = r.Key
		n++
	}
	return n
}

// testTally: rows are counted and weighed by class, whatever happens to them.
func testTally(s *suite) {
	t := s.t
	class := blobstore.NewID().String() + "/"
	want := func(class string, rows, items, weight uint64) {
		t.Helper()
		got, err := s.Tally(s.ctx(), class)
		if err != nil || got.Rows != rows || got.Items != items || got.Bytes != weight {
			t.Errorf("tally of %q is %+v, %v; want %d rows, %d items of %d bytes",
				class, got, err, rows, items, weight)
		}
	}
	weighed := func(key string, weight uint64) blobstore.Row {
		return blobstore.Row{Key: key, Value: []byte("v"), Weight: weight}
	}
	want(class, 0, 0, 0)
	s.put(t, weighed(class+"a/1", 10), weighed(class+"a/2", 0), weighed(class+"b/1", 5), row(class+"c", ""))
	want(class, 4, 2, 15)
	want(class+"a/", 1, 1, 10)
	want(class+"b/", 1, 1, 5)
	before, err := s.Tally(s.ctx(), class)
	must(t, "tally", err)
	s.put(t, weighed(class+"a/1", 7), weighed(class+"a/2", 1))
	want(class, 4, 3, 13)
	want(class+"a/", 2, 2, 8)
	if after, err := s.Tally(s.ctx(), class); err != nil || after.Sum == before.Sum {
		t.Errorf("other rows have the same sum %v, %v", after.Sum, err)
	}
	gone := []string{class + "a/1", class + "a/2", class + "b/1", class + "x"}
	_, err = s.Commit(s.ctx(), blobstore.Txn{Delete: gone})
	must(t, "delete", err)
	want(class, 1, 0, 0)
	want(class+"a/", 0, 0, 0)
	all, err := s.Tally(s.ctx(), "")
	must(t, "tally", err)
	if all.Rows == 0 {
		t.Error("there are no rows at all")
	}
}
