package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
)

// checkTallies compares what was kept row by row with what the rows come to.
func checkTallies(tb fataler, c *CatalogStore, model map[string]Row) {
	if _, err := c.VerifySet(context.Background()); err != nil {
		tb.Fatalf("%v", err)
	}
	counted, total := tallies{}, Tally{}
	for key, row := range model {
		counted.add(key, row)
		total.add(row.Weight, hashRow(key, row))
	}
	counted[""] = &total
	for class, want := range counted {
		if class == "" || class == classOf(class) || want.Rows > 0 {
			got, err := c.Tally(context.Background(), class)
			if class == "" {
				got, _ = c.Set()
			}
			if err != nil || got != *want {
				tb.Fatalf("tally of %q is %+v, %v; want %+v", class, got, err, *want)
			}
		}
	}
}

// Replicas that batch the log differently agree at every position in between.
func TestSetAtEveryPosition(t *testing.T) {
	a, b := openCatalogIn(t, t.TempDir()), openCatalogIn(t, t.TempDir())
	defer closeCatalog(t, a)
	defer closeCatalog(t, b)
	var entries []TxnEntry
	for i := range uint64(100) {
		entries = append(entries, putEntry(2*i+1, 0, fmt.Sprintf("m1/a/%d", i%7), strconv.FormatUint(i, 10)))
	}
	applyTxns(t, a, entries...)
	for i := range entries {
		applyTxns(t, b, entries[i])
	}
	a.Noop(250)
	for p := uint64(1); p <= 250; p++ {
		x, okA := a.SetAt(p)
		y, okB := b.SetAt(p)
		if !okA || okB != (p < 200) || okB && x != y {
			t.Fatalf("position %d: %+v %v, %+v %v", p, x, okA, y, okB)
		}
	}
	if set, position := a.Set(); position != 250 || set.Rows != 7 {
		t.Errorf("set %+v at %d", set, position)
	}
}

// What is remembered of the past is bounded.
func TestSetHistoryIsBounded(t *testing.T) {
	var h setHistory
	h.reset(setAt{})
	for i := range uint64(5 * setHistoryMax) {
		h.add([]setAt{{i + 1, Tally{Rows: i}}}, i+1)
	}
	last := uint64(5 * setHistoryMax)
	if len(h.past) > 2*setHistoryMax || cap(h.past) > 5*setHistoryMax {
		t.Errorf("%d are remembered, room for %d", len(h.past), cap(h.past))
	}
	if got, ok := h.at(last - setHistoryMax + 1); !ok || got.Rows != last-setHistoryMax {
		t.Errorf("%+v, %v", got, ok)
	}
	if _, ok := h.at(1); ok {
		t.Error("the first position is remembered")
	}
	if _, ok := h.at(last + 1); ok {
		t.Error("a position that was not reached is known")
	}
}

// A row that changed behind our back is found, and a snapshot of such a
// catalog is not taken over.
func TestVerifySetFindsOtherRows(t *testing.T) {
	c := openCatalogIn(t, t.TempDir())
	defer closeCatalog(t, c)
	applyTxns(t, c, putEntry(1, 0, "m1/a/x", "1"), putEntry(2, 0, "m1/a/y", "2"))
	if position, err := c.VerifySet(t.Context()); err != nil || position != 2 {
		t.Fatal(position, err)
	}
	gen := c.current.Load()
	txn := gen.db.NewTransactionAt(newest, true)
	if err := txn.Set(rowKey("m1/a/y"), encodeRow(2, 0, []byte("3"))); err != nil {
		t.Fatal(err)
	}
	if err := txn.CommitAt(3, nil); err != nil {
		t.Fatal(err)
	}
	gen.readers.commit(gen.db, 3)
	if _, err := c.VerifySet(t.Context()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("verify: %v, want ErrCorrupt", err)
	}
	other := openCatalogIn(t, t.TempDir())
	defer closeCatalog(t, other)
	if err := other.Restore(bytes.NewReader(snapshotOf(t, c))); !errors.Is(err, ErrCorrupt) {
		t.Errorf("restore: %v, want ErrCorrupt", err)
	}
}
