package wire

import "encoding/binary"

// AppendBytes writes a byte string with its length.
func AppendBytes(b, p []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(p)))
	return append(b, p...)
}

// AppendText writes a text with its length.
func AppendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// AppendUint writes a number.
func AppendUint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

// AppendInt writes a size, which is not negative.
func AppendInt(b []byte, v int64) []byte {
	return binary.AppendUvarint(b, uint64(v))
}

// Flag is a truth as a byte.
func Flag(v bool) byte {
	if v {
		return 1
	}
	return 0
}
