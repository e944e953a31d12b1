package rows

import (
	"crypto/rand"
	"encoding/binary"
	"strings"
	"time"
)

// Ids of recordings, exports and deletions are 48 bits of milliseconds, 10 of the
// microseconds behind them and 70 random bits, in 26 base-32 digits: they sort by
// their time, cannot be guessed, and every digit passes libshout unescaped.
const (
	idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	// IDBytes is the length of an id.
	IDBytes = 26
)

// NewID makes an id. The microseconds (RFC 9562, 6.2, method 3) are there for an
// item that is deleted, made anew and deleted again within a millisecond: the later
// deletion is the one that comes back.
func NewID(now time.Time) string {
	var raw [16]byte
	_, _ = rand.Read(raw[6:]) // never fails, see crypto/rand.Read
	micros := now.UnixMicro()
	tail := uint64(micros%1000)<<6 | uint64(raw[7]&63)
	binary.BigEndian.PutUint64(raw[:8], uint64(micros/1000)<<16|tail)
	hi, lo := binary.BigEndian.Uint64(raw[:8]), binary.BigEndian.Uint64(raw[8:])
	var out [IDBytes]byte
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = idAlphabet[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return string(out[:])
}

// IsID says whether the text has the form of an id.
func IsID(s string) bool {
	if len(s) != IDBytes {
		return false
	}
	for i := range len(s) {
		if strings.IndexByte(idAlphabet, s[i]) < 0 {
			return false
		}
	}
	return true
}

// MadeAt is when the id was made; the zero time for what is none.
func MadeAt(id string) time.Time {
	const timeDigits = 10 // 50 bits, of which the first two are 0
	if !IsID(id) {
		return time.Time{}
	}
	var ms int64
	for i := range timeDigits {
		ms = ms<<5 | int64(strings.IndexByte(idAlphabet, id[i]))
	}
	return time.UnixMilli(ms)
}

// InvertID maps ids so that later ones sort first. It is its own inverse.
func InvertID(id string) string {
	out := make([]byte, len(id))
	for i := range out {
		out[i] = idAlphabet[31-strings.IndexByte(idAlphabet, id[i])&31]
	}
	return string(out)
}
