package blobstore

import "errors"

// Sentinels of the store, compared with errors.Is.
var (
	// ErrNotFound is returned when no such blob or row exists here.
	ErrNotFound = errors.New("not found")
	// ErrConflict is returned when a repeated call brings other bytes or
	// totals than the first, and when a condition of a Txn does not hold.
	ErrConflict = errors.New("conflict")
	// ErrSealed is returned when bytes are added to a sealed blob.
	ErrSealed = errors.New("blob is sealed")
	// ErrGap is returned when an append to a live blob starts beyond its end.
	ErrGap = errors.New("append leaves a gap")
	// ErrCorrupt is returned when stored bytes do not match their checksum or
	// a blob does not match its totals.
	ErrCorrupt = errors.New("corrupt data")
	// ErrUnreadable is returned by Apply when a row that decides the outcome of an
	// operation cannot be read here: a table may be damaged, see [Store.Look].
	ErrUnreadable = errors.New("row cannot be read")
	// ErrTooLarge is returned when a blob, a chunk, a key or a row exceeds its
	// limit.
	ErrTooLarge = errors.New("too large")
	// ErrBadID is returned when a text is not a blob id.
	ErrBadID = errors.New("bad blob id")
	// ErrUnavailable is returned when the operation needs a majority or a
	// replica that cannot be reached now. Trying again later may succeed.
	ErrUnavailable = errors.New("unavailable")
	// ErrNoSpace is returned when the disk is too full to take a write.
	ErrNoSpace = errors.New("no space left")
	// ErrFormat is returned when stored data has a format that this version
	// does not know.
	ErrFormat = errors.New("unknown format version")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("closed")
)
