package library

import "carillon/library/fault"

// The sentinels of package fault, by which the library and its parts say what
// is wrong.
var (
	ErrNotFound         = fault.ErrNotFound
	ErrBadName          = fault.ErrBadName
	ErrBadRequest       = fault.ErrBadRequest
	ErrUnsupportedMedia = fault.ErrUnsupportedMedia
	ErrTooLarge         = fault.ErrTooLarge
	ErrIncomplete       = fault.ErrIncomplete
	ErrPrecondition     = fault.ErrPrecondition
	ErrUnauthorized     = fault.ErrUnauthorized
	ErrForbidden        = fault.ErrForbidden
	ErrTicketUsed       = fault.ErrTicketUsed
	ErrMountInUse       = fault.ErrMountInUse
	ErrState            = fault.ErrState
	ErrExpired          = fault.ErrExpired
	ErrBadToken         = fault.ErrBadToken
	ErrGone             = fault.ErrGone
	ErrNoForm           = fault.ErrNoForm
	ErrLiveForm         = fault.ErrLiveForm
	ErrTrimmed          = fault.ErrTrimmed
	ErrTarget           = fault.ErrTarget
	ErrLimit            = fault.ErrLimit
	ErrExists           = fault.ErrExists
	ErrUsed             = fault.ErrUsed
	ErrQuota            = fault.ErrQuota
	ErrUnavailable      = fault.ErrUnavailable
)
