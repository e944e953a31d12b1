package rows

import (
	"encoding/json"
	"fmt"
	"time"

	"carillon/blobstore"
)

// Version is the first byte of every value the library writes. A value with
// another one was written by a later release and is [blobstore.ErrFormat].
const Version = 1

// EncodeText is the value of index rows: the version byte and the text.
func EncodeText(text string) []byte { return append([]byte{Version}, text...) }

// DecodeText reads what EncodeText wrote.
func DecodeText(value []byte) (string, error) {
	b, err := body(value)
	return string(b), err
}

// Encode is the value of a row: the version byte and v as JSON.
// [blobstore.ErrTooLarge]: it has more than blobstore.RowBytesMax.
func Encode(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode row: %w", err)
	}
	value := append([]byte{Version}, body...)
	if len(value) > blobstore.RowBytesMax {
		return nil, fmt.Errorf("row of %d bytes: %w", len(value), blobstore.ErrTooLarge)
	}
	return value, nil
}

// Decode reads what Encode wrote. [blobstore.ErrFormat]: a later release wrote
// it; [blobstore.ErrCorrupt]: nobody did.
func Decode(value []byte, into any) error {
	b, err := body(value)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("decode row: %w: %w", blobstore.ErrCorrupt, err)
	}
	return nil
}

func body(value []byte) ([]byte, error) {
	if len(value) == 0 {
		return nil, fmt.Errorf("empty row: %w", blobstore.ErrCorrupt)
	}
	if value[0] != Version {
		return nil, fmt.Errorf("row version %d: %w", value[0], blobstore.ErrFormat)
	}
	return value[1:], nil
}

// ToMS is a time as it lies in a row, 0 for none.
func ToMS(t *time.Time) int64 {
	if t == nil {
		return 0
	}
	return t.UnixMilli()
}

// FromMS is the time of that millisecond.
func FromMS(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// FromMSPtr is the time of that millisecond; nil for 0.
func FromMSPtr(ms int64) *time.Time {
	if ms == 0 {
		return nil
	}
	t := FromMS(ms)
	return &t
}
