package rows

import (
	"fmt"

	"carillon/library/fault"
)

const (
	// PageDefault is how much one page of a listing has if nothing is said.
	PageDefault = 100
	// PageMax is how much it has at most.
	PageMax = 1000
	// ScanMax bounds the rows that one page of a filtered listing looks at: some
	// 50 ms of decoding. A page may thus be short, and its next still leads on.
	ScanMax = 10_000
)

// PageLimit is the limit of a page that was asked for: 0 is PageDefault, and
// what is not 1 to PageMax is [fault.ErrBadRequest].
func PageLimit(limit int) (int, error) {
	switch {
	case limit == 0:
		return PageDefault, nil
	case limit < 0 || limit > PageMax:
		return 0, fmt.Errorf("limit %d, want 1 to %d: %w", limit, PageMax, fault.ErrBadRequest)
	}
	return limit, nil
}
