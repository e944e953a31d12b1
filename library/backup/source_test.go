package backup

import (
	"testing"

	"go.uber.org/goleak"

	"carillon/library/fault"
	"carillon/library/libtest"
	"carillon/library/rows"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestHolds: a hold is prolonged under its id, ends once, and there are only so
// many.
func TestHolds(t *testing.T) {
	t.Parallel()
	from := Source{Catalog: rows.Store{Catalog: libtest.OpenStore(t, t.TempDir())}}
	id, until, err := from.Hold(t.Context(), "")
	libtest.WantErr(t, "hold", err, nil)
	same, later, err := from.Hold(t.Context(), id)
	libtest.WantErr(t, "prolong", err, nil)
	if same != id || later.Before(until) {
		t.Errorf("hold %s until %v, then %s until %v", id, until, same, later)
	}
	_, _, err = from.Hold(t.Context(), "nobody's")
	libtest.WantErr(t, "hold under a name", err, fault.ErrNotFound)
	for range holdsMax - 1 {
		_, _, err = from.Hold(t.Context(), "")
		libtest.WantErr(t, "another hold", err, nil)
	}
	_, _, err = from.Hold(t.Context(), "")
	libtest.WantErr(t, "too many", err, fault.ErrLimit)
	_, _, err = from.Hold(t.Context(), id)
	libtest.WantErr(t, "prolong while there are too many", err, nil)
	libtest.WantErr(t, "release", from.Release(t.Context(), id), nil)
	libtest.WantErr(t, "release again", from.Release(t.Context(), id), nil)
}
