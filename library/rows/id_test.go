package rows

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestIDs: ids sort by their time to the microsecond, are different, and
// inverting turns their order round.
func TestIDs(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var ids, inverted []string
	for i := range 200 {
		id := NewID(start.Add(time.Duration(i) * 13 * time.Microsecond))
		if !IsID(id) {
			t.Fatalf("%q is not taken for a recording id", id)
		}
		if InvertID(InvertID(id)) != id {
			t.Fatalf("inverting %q twice gives %q", id, InvertID(InvertID(id)))
		}
		ids, inverted = append(ids, id), append(inverted, InvertID(id))
	}
	if !slices.IsSorted(ids) {
		t.Error("ids do not sort by their time")
	}
	slices.Reverse(inverted)
	if !slices.IsSorted(inverted) {
		t.Error("inverted ids do not sort newest first")
	}
	if len(slices.Compact(ids)) != 200 {
		t.Error("an id was made twice")
	}
	for _, bad := range []string{
		"", "short", ids[0] + "0", strings.Repeat("u", IDBytes), "../../../../../../../../..",
	} {
		if IsID(bad) {
			t.Errorf("%q is taken for a recording id", bad)
		}
	}
}
