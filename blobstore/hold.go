package blobstore

import (
	"encoding/binary"
	"fmt"
	"time"
)

// HoldPrefix starts the keys of hold rows: while there is one whose time has
// not come, no blob is swept. Whoever copies what the catalog refers to at one
// position, as a backup does, holds until it has the bytes; a holder that dies
// is forgotten when its time comes.
const HoldPrefix = "hold/"

const (
	holdVersion = 1
	holdBytes   = 1 + 8
)

// HoldValue is the value of a hold row: version, milliseconds of the time.
func HoldValue(until time.Time) []byte {
	return binary.LittleEndian.AppendUint64([]byte{holdVersion}, uint64(until.UnixMilli()))
}

// HoldUntil reads what HoldValue made. It returns ErrFormat.
func HoldUntil(value []byte) (time.Time, error) {
	if len(value) != holdBytes || value[0] != holdVersion {
		return time.Time{}, fmt.Errorf("hold of %d bytes: %w", len(value), ErrFormat)
	}
	return time.UnixMilli(int64(binary.LittleEndian.Uint64(value[1:]))).UTC(), nil
}
