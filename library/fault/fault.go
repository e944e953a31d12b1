package fault

import "errors"

// Sentinels of the library and its parts, compared with errors.Is. Errors of package
// blobstore pass through wrapped.
var (
	// ErrNotFound is returned when no such item, recording or mount exists.
	ErrNotFound = errors.New("no such item")
	// ErrBadName is returned when an account, id or name is not well formed.
	ErrBadName = errors.New("bad name")
	// ErrBadRequest is returned when a field of a request is not valid; the
	// text names the field.
	ErrBadRequest = errors.New("bad request")
	// ErrUnsupportedMedia is returned when the body is no audio we store.
	ErrUnsupportedMedia = errors.New("unsupported media type")
	// ErrTooLarge is returned when a body exceeds its limit.
	ErrTooLarge = errors.New("body too large")
	// ErrIncomplete is returned when a body ended before its length.
	ErrIncomplete = errors.New("incomplete body")
	// ErrPrecondition is returned when If-Match or If-None-Match fails.
	ErrPrecondition = errors.New("precondition failed")
	// ErrUnauthorized is returned for missing or wrong source credentials.
	ErrUnauthorized = errors.New("unauthorized")
	// ErrForbidden is returned when somebody may not listen, whatever he says.
	ErrForbidden = errors.New("forbidden")
	// ErrTicketUsed is returned when a ticket's recording has already begun.
	ErrTicketUsed = errors.New("ticket was used")
	// ErrMountInUse is returned when a source is already live on the mount.
	ErrMountInUse = errors.New("mount in use")
	// ErrState is returned when a recording is not in a state that allows the
	// operation.
	ErrState = errors.New("wrong state")
	// ErrExpired is returned for a playback token past its time.
	ErrExpired = errors.New("token expired")
	// ErrBadToken is returned for a playback token that we did not sign.
	ErrBadToken = errors.New("bad token")
	// ErrGone is returned for a playback token whose item holds other bytes
	// now.
	ErrGone = errors.New("item was replaced")
	// ErrNoForm is returned when a sound cannot be had in the form that was
	// asked for.
	ErrNoForm = errors.New("no such form of this item")
	// ErrLiveForm is returned when a recording in progress is asked for in a
	// form that only a finite sound has.
	ErrLiveForm = errors.New("not while it is being recorded")
	// ErrTrimmed is returned for an event position that the feed does not reach
	// back to, or has not come to.
	ErrTrimmed = errors.New("no such event position any more")
	// ErrTarget is returned for a URL that deliveries may not go to.
	ErrTarget = errors.New("target is not allowed")
	// ErrLimit is returned when a limit of this node is reached: sources,
	// recordings, listeners.
	ErrLimit = errors.New("limit reached")
	// ErrExists is returned when a name is taken that nothing may replace.
	ErrExists = errors.New("name is taken")
	// ErrUsed is returned when a name cannot go because others lead to it that
	// cannot follow.
	ErrUsed = errors.New("it is used")
	// ErrQuota is returned when an account may not store so much more.
	ErrQuota = errors.New("quota exceeded")
	// ErrUnavailable is returned when there is no majority to write to, or no
	// replica to read from, within the time allowed.
	ErrUnavailable = errors.New("unavailable")
)
