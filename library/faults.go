package library

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"

	"carillon/blobstore"
	"carillon/library/forms"
)

// Fault is what an error means to a client: one HTTP status and one stable
// code, whichever door it leaves by.
type Fault struct {
	Status int
	Code   string
}

// FaultOf is the only place where errors become statuses. Unknown errors are
// 500 "internal". No error has no fault.
//
// Sources are told 401 for credentials and 403 for a mount or ticket in use,
// as Icecast does (freeswitch-wire.md 2.7); libshout gives up on all of them
// alike (2.2), so the difference is for the log that a person reads.
func FaultOf(err error) Fault {
	if err == nil {
		return Fault{}
	}
	for _, row := range faultTable() {
		if errors.Is(err, row.err) {
			return row.fault
		}
	}
	if _, limited := errors.AsType[*http.MaxBytesError](err); limited {
		return Fault{http.StatusRequestEntityTooLarge, "too_large"}
	}
	return Fault{http.StatusInternalServerError, "internal"}
}

// Faults are all that FaultOf may return.
func Faults() []Fault {
	all := []Fault{{http.StatusInternalServerError, "internal"}}
	for _, row := range faultTable() {
		if !slices.Contains(all, row.fault) {
			all = append(all, row.fault)
		}
	}
	return all
}

type faultRow struct {
	err   error
	fault Fault
}

// faultTable is read from the top: what the library says about a request
// stands above what the store said about a row, and a context that ended above
// the operation that it ended.
func faultTable() []faultRow {
	return []faultRow{
		{ErrBadName, Fault{http.StatusBadRequest, "bad_name"}},
		{ErrBadRequest, Fault{http.StatusBadRequest, "bad_request"}},
		{ErrUnsupportedMedia, Fault{http.StatusUnsupportedMediaType, "unsupported_media"}},
		{ErrTooLarge, Fault{http.StatusRequestEntityTooLarge, "too_large"}},
		{ErrIncomplete, Fault{http.StatusBadRequest, "incomplete"}},
		{ErrPrecondition, Fault{http.StatusPreconditionFailed, "precondition_failed"}},
		{ErrUnauthorized, Fault{http.StatusUnauthorized, "unauthorized"}},
		{ErrForbidden, Fault{http.StatusForbidden, "forbidden"}},
		{ErrTicketUsed, Fault{http.StatusForbidden, "ticket_used"}},
		{ErrMountInUse, Fault{http.StatusForbidden, "mount_in_use"}},
		{ErrState, Fault{http.StatusConflict, "wrong_state"}},
		{ErrBadToken, Fault{http.StatusForbidden, "bad_token"}},
		{ErrExpired, Fault{http.StatusGone, "expired"}},
		{ErrGone, Fault{http.StatusGone, "gone"}},
		{ErrNoForm, Fault{http.StatusNotAcceptable, "no_such_form"}},
		{ErrLiveForm, Fault{http.StatusConflict, "recording_live"}},
		{forms.ErrBusy, Fault{http.StatusServiceUnavailable, "busy"}},
		{ErrTrimmed, Fault{http.StatusGone, "events_trimmed"}},
		{ErrTarget, Fault{http.StatusBadRequest, "bad_target"}},
		{ErrExists, Fault{http.StatusConflict, "exists"}},
		{ErrUsed, Fault{http.StatusConflict, "in_use"}},
		// Not 507: the disk has room, and who watches for 5xx shall not be woken
		// by a client that has used up its share.
		{ErrQuota, Fault{http.StatusForbidden, "quota_exceeded"}},
		{errSuperseded, Fault{http.StatusConflict, "superseded"}},
		{ErrLimit, Fault{http.StatusServiceUnavailable, "limit"}},
		// Who cancels is the client that hung up: nobody reads this answer,
		// but the log and the metrics do. A deadline is our own.
		{context.Canceled, Fault{http.StatusRequestTimeout, "canceled"}},
		{context.DeadlineExceeded, Fault{http.StatusServiceUnavailable, "timeout"}},
		{ErrUnavailable, Fault{http.StatusServiceUnavailable, "unavailable"}},
		{ErrNotFound, Fault{http.StatusNotFound, "not_found"}},

		{blobstore.ErrUnavailable, Fault{http.StatusServiceUnavailable, "unavailable"}},
		{blobstore.ErrClosed, Fault{http.StatusServiceUnavailable, "closed"}},
		{blobstore.ErrNoSpace, Fault{http.StatusInsufficientStorage, "no_space"}},
		{blobstore.ErrTooLarge, Fault{http.StatusRequestEntityTooLarge, "too_large"}},
		{blobstore.ErrCorrupt, Fault{http.StatusInternalServerError, "corrupt"}},
		{blobstore.ErrFormat, Fault{http.StatusInternalServerError, "unknown_format"}},
		{blobstore.ErrConflict, Fault{http.StatusConflict, "conflict"}},
		{blobstore.ErrSealed, Fault{http.StatusConflict, "conflict"}},
		{blobstore.ErrGap, Fault{http.StatusConflict, "conflict"}},
		{blobstore.ErrBadID, Fault{http.StatusBadRequest, "bad_name"}},
		{blobstore.ErrNotFound, Fault{http.StatusNotFound, "not_found"}},
		{io.ErrUnexpectedEOF, Fault{http.StatusBadRequest, "incomplete"}},
	}
}
