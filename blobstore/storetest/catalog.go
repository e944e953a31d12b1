package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"carillon/blobstore"
)

// space returns a prefix of keys that no other test uses.
func space() string { return "storetest/" + blobstore.NewID().String() + "/" }

func row(key, value string) blobstore.Row { return blobstore.Row{Key: key, Value: []byte(value)} }

func (s *suite) put(t *testing.T, rows ...blobstore.Row) uint64 {
	t.Helper()
	rev, err := s.Commit(s.ctx(), blobstore.Txn{Put: rows})
	must(t, "commit", err)
	return rev
}

func (s *suite) wantRow(t *testing.T, key, value string, revision uint64) {
	t.Helper()
	got, err := s.Get(s.ctx(), key)
	if err != nil || got.Key != key || string(got.Value) != value || got.Revision != revision {
		t.Errorf("row %q is %q at %d, %v; want %q at %d", key, got.Value, got.Revision, err, value, revision)
	}
}

func testCommitGet(s *suite) {
	t := s.t
	p := space()
	_, err := s.Get(s.ctx(), p+"a")
	wantErr(t, "get unknown", err, blobstore.ErrNotFound)
	first := s.put(t, row(p+"a", "1"), row(p+"b", ""))
	s.wantRow(t, p+"a", "1", first)
	s.wantRow(t, p+"b", "", first)
	second := s.put(t, row(p+"a", "2"))
	if second <= first {
		t.Errorf("revision %d after %d", second, first)
	}
	s.wantRow(t, p+"a", "2", second)
	s.wantRow(t, p+"b", "", first)
	_, err = s.Commit(s.ctx(), blobstore.Txn{Delete: []string{p + "a", p + "never"}})
	must(t, "delete", err)
	_, err = s.Get(s.ctx(), p+"a")
	wantErr(t, "get deleted", err, blobstore.ErrNotFound)
	must(t, "fresh", s.Fresh(s.ctx()))
	if s.Applied() < second {
		t.Errorf("applied %d, committed %d", s.Applied(), second)
	}
}

// testNamedCommits: of commits with one ID the first counts, refused or not,
// also when others came in between.
func testNamedCommits(s *suite) {
	t := s.t
	p := space()
	id, refused := blobstore.NewID(), blobstore.NewID()
	create := blobstore.Txn{ID: id, If: []blobstore.Cond{{Key: p + "a"}}, Put: []blobstore.Row{row(p+"a", "1")}}
	first, err := s.Commit(s.ctx(), create)
	must(t, "create", err)
	_, err = s.Commit(s.ctx(), blobstore.Txn{ID: refused, If: create.If})
	wantErr(t, "condition", err, blobstore.ErrConflict)
	_, err = s.Commit(s.ctx(), blobstore.Txn{Delete: []string{p + "a"}})
	must(t, "delete", err)
	again, err := s.Commit(s.ctx(), create)
	if err != nil || again != first {
		t.Errorf("the same commit again: at %d, %v; want %d", again, err, first)
	}
	_, err = s.Commit(s.ctx(), blobstore.Txn{ID: refused, Put: create.Put})
	wantErr(t, "refused before", err, blobstore.ErrConflict)
	_, err = s.Get(s.ctx(), p+"a")
	wantErr(t, "get deleted", err, blobstore.ErrNotFound)
}

func testConditions(s *suite) {
	t := s.t
	p := space()
	absent := []blobstore.Cond{{Key: p + "a"}}
	first, err := s.Commit(s.ctx(), blobstore.Txn{If: absent, Put: []blobstore.Row{row(p+"a", "1")}})
	must(t, "create", err)
	_, err = s.Commit(s.ctx(), blobstore.Txn{If: absent, Put: []blobstore.Row{row(p+"a", "x"), row(p+"z", "x")}})
	wantErr(t, "create again", err, blobstore.ErrConflict)
	_, err = s.Get(s.ctx(), p+"z")
	wantErr(t, "half a transaction", err, blobstore.ErrNotFound)
	s.wantRow(t, p+"a", "1", first)
	same := []blobstore.Cond{{Key: p + "a", Revision: first}, {Key: p + "b"}}
	second, err := s.Commit(s.ctx(), blobstore.Txn{If: same, Put: []blobstore.Row{row(p+"a", "2")}})
	must(t, "replace", err)
	_, err = s.Commit(s.ctx(), blobstore.Txn{If: same, Delete: []string{p + "a"}})
	wantErr(t, "replaced meanwhile", err, blobstore.ErrConflict)
	s.wantRow(t, p+"a", "2", second)
	_, err = s.Commit(s.ctx(), blobstore.Txn{
		If: []blobstore.Cond{{Key: p + "a", Revision: second}}, Delete: []string{p + "a"},
	})
	must(t, "delete", err)
	_, err = s.Commit(s.ctx(), blobstore.Txn{If: absent, Put: []blobstore.Row{row(p+"a", "3")}})
	must(t, "create anew", err)
}

func testCatalogLimits(s *suite) {
	t := s.t
	p := space()
	long := p + strings.Repeat("k", blobstore.KeyBytesMax-len(p))
	largest := blobstore.Row{Key: long, Value: make([]byte, blobstore.RowBytesMax)}
	s.put(t, largest)
	got, err := s.Get(s.ctx(), long)
	if err != nil || len(got.Value) != blobstore.RowBytesMax {
		t.Errorf("largest row has %d bytes, %v", len(got.Value), err)
	}
	many := make([]blobstore.Row, blobstore.TxnOpsMax+1)
	for i := range many {
		many[i] = row(fmt.Sprintf("%smany/%d", p, i), "v")
	}
	for name, rows := range map[string][]blobstore.Row{
		"key":        {row(long+"k", "")},
		"empty key":  {row("", "")},
		"value":      {{Key: p + "v", Value: make([]byte, blobstore.RowBytesMax+1)}},
		"operations": many,
	} {
		_, err := s.Commit(s.ctx(), blobstore.Txn{Put: rows})
		wantErr(t, name, err, blobstore.ErrTooLarge)
	}
	s.put(t, many[:blobstore.TxnOpsMax]...)
}

func (s *suite) keys(t *testing.T, prefix, after string) string {
	t.Helper()
	var keys []string
	for r, err := range s.Scan(s.ctx(), prefix, after) {
		must(t, "scan", err)
		keys = append(keys, strings.TrimPrefix(r.Key, prefix))
	}
	return strings.Join(keys, " ")
}

func testScan(s *suite) {
	t := s.t
	p := space()
	s.put(t, row(p+"b", "2"), row(p+"a", "1"), row(p+"aa", "3"), row(p+"\xff", "4"), row(p+"c/d", "5"))
	for after, want := range map[string]string{
		"":         "a aa b c/d \xff",
		p:          "a aa b c/d \xff",
		p + "a":    "aa b c/d \xff",
		p + "ab":   "b c/d \xff",
		p + "\xff": "",
		p + "zz":   "\xff",
		"z":        "",
	} {
		if got := s.keys(t, p, after); got != want {
			t.Errorf("after %q: %q, want %q", after, got, want)
		}
	}
	if got := s.keys(t, p+"a", ""); got != " a" {
		t.Errorf("prefix a: %q", got)
	}
	n := 0
	for _, err := range s.Scan(s.ctx(), p, "") {
		must(t, "scan", err)
		n++
		break
	}
	if n != 1 {
		t.Errorf("broken loop ran %d times", n)
	}
}

// A scan shows one moment, whatever is committed meanwhile.
func testScanView(s *suite) {
	t := s.t
	p := space()
	for i := range 20 {
		s.put(t, row(fmt.Sprintf("%s%02d", p, i), "old"))
	}
	n := 0
	for r, err := range s.Scan(s.ctx(), p, "") {
		must(t, "scan", err)
		if n == 0 {
			s.put(t, row(p+"10", "new"), row(p+"10b", "new"))
			_, err := s.Commit(s.ctx(), blobstore.Txn{Delete: []string{p + "15"}})
			must(t, "delete", err)
		}
		if string(r.Value) != "old" {
			t.Errorf("row %q is %q", r.Key, r.Value)
		}
		n++
	}
	if n != 20 {
		t.Errorf("scan saw %d rows, want 20", n)
	}
}

func testWatch(s *suite) {
	t := s.t
	p := space()
	changed, cancel := s.Watch(p + "a")
	other, cancelOther := s.Watch(p + "b")
	s.put(t, row(p+"a", "1"))
	select {
	case <-changed:
	case <-s.ctx().Done():
		t.Fatal("a change was not seen")
	}
	cancel()
	cancel()
	select {
	case <-other:
		t.Error("another row's watch fired")
	default:
	}
	cancelOther()
	changed, cancel = s.Watch(p + "a")
	defer cancel()
	_, err := s.Commit(s.ctx(), blobstore.Txn{Delete: []string{p + "a"}})
	must(t, "delete", err)
	select {
	case <-changed:
	case <-s.ctx().Done():
		t.Fatal("a deletion was not seen")
	}
}

// Writers that read, add one and try again on conflict lose no count.
func testConcurrentCommits(s *suite) {
	t := s.t
	p := space()
	const writers, each = 4, 5
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for n := 0; n < each; {
				var count []byte
				r, err := s.Get(s.ctx(), p+"n")
				if err != nil && !errors.Is(err, blobstore.ErrNotFound) {
					t.Errorf("get: %v", err)
					return
				}
				count = append(append(count, r.Value...), 'x')
				_, err = s.Commit(s.ctx(), blobstore.Txn{
					If:  []blobstore.Cond{{Key: p + "n", Revision: r.Revision}},
					Put: []blobstore.Row{{Key: p + "n", Value: count}},
				})
				switch {
				case err == nil:
					n++
				case !errors.Is(err, blobstore.ErrConflict):
					t.Errorf("commit: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	r, err := s.Get(s.ctx(), p+"n")
	if err != nil || len(r.Value) != writers*each {
		t.Errorf("counted %d, %v; want %d", len(r.Value), err, writers*each)
	}
}
