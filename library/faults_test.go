package library

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"carillon/blobstore"
	"carillon/library/forms"
)

// TestFaults: every sentinel has its status, alone, wrapped, and together with
// what it was made from.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{ErrNotFound, 404, "not_found"},
		{ErrBadName, 400, "bad_name"},
		{ErrBadRequest, 400, "bad_request"},
		{ErrUnsupportedMedia, 415, "unsupported_media"},
		{ErrTooLarge, 413, "too_large"},
		{ErrIncomplete, 400, "incomplete"},
		{ErrPrecondition, 412, "precondition_failed"},
		{ErrUnauthorized, 401, "unauthorized"},
		{ErrForbidden, 403, "forbidden"},
		{ErrTicketUsed, 403, "ticket_used"},
		{ErrMountInUse, 403, "mount_in_use"},
		{ErrState, 409, "wrong_state"},
		{ErrExpired, 410, "expired"},
		{ErrGone, 410, "gone"},
		{ErrNoForm, 406, "no_such_form"},
		{ErrLiveForm, 409, "recording_live"},
		{forms.ErrBusy, 503, "busy"},
		{ErrTarget, 400, "bad_target"},
		{ErrUsed, 409, "in_use"},
		{ErrTrimmed, 410, "events_trimmed"},
		{ErrBadToken, 403, "bad_token"},
		{ErrLimit, 503, "limit"},
		{ErrUnavailable, 503, "unavailable"},
		{blobstore.ErrNotFound, 404, "not_found"},
		{blobstore.ErrConflict, 409, "conflict"},
		{blobstore.ErrSealed, 409, "conflict"},
		{blobstore.ErrGap, 409, "conflict"},
		{blobstore.ErrCorrupt, 500, "corrupt"},
		{blobstore.ErrTooLarge, 413, "too_large"},
		{blobstore.ErrBadID, 400, "bad_name"},
		{blobstore.ErrUnavailable, 503, "unavailable"},
		{blobstore.ErrNoSpace, 507, "no_space"},
		{blobstore.ErrFormat, 500, "unknown_format"},
		{blobstore.ErrClosed, 503, "closed"},
		{context.Canceled, 408, "canceled"},
		{context.DeadlineExceeded, 503, "timeout"},
		{&http.MaxBytesError{Limit: 1}, 413, "too_large"},
		{errors.New("anything"), 500, "internal"},
		{fmt.Errorf("%w: %w", ErrIncomplete, context.Canceled), 400, "incomplete"},
		{nil, 0, ""},
	} {
		want := Fault{c.status, c.code}
		if got := FaultOf(c.err); got != want {
			t.Errorf("FaultOf(%v) = %v, want %v", c.err, got, want)
		}
		if c.err == nil {
			continue
		}
		if got := FaultOf(fmt.Errorf("put a/b: %w", c.err)); got != want {
			t.Errorf("FaultOf(wrapped %v) = %v, want %v", c.err, got, want)
		}
	}
}
