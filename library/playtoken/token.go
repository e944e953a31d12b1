package playtoken

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"carillon/blobstore"
	"carillon/library/fault"
	"carillon/library/naming"
)

// A token is base64url of
//
//	version 1 or 2 · expiry (4 bytes, units of 1 s) · blob (8 bytes) ·
//	length of account (1 byte) · account · id · tag (16 bytes)
//
// where blob is the Pin and tag the first half of an HMAC-SHA256 over all before
// it.
const (
	soundVersion = 1
	// streamVersion is the token of a continuous stream.
	streamVersion = 2
	headBytes     = 1 + 4 + 8 + 1
	tagBytes      = 16
	// textBytesMax bounds a token before anything is decoded.
	textBytesMax = (headBytes+naming.AccountBytesMax+naming.IDBytesMax+tagBytes+2)/3*4 + 4
)

// Pin says which sound a token is of: the first half of a blob's id. It pins the
// sound and not the number of the revision: a blob id is made by each write of
// bytes and never used again, so no other sound can be played under it, while an
// edit of the description does not break the URLs that are out.
type Pin [8]byte

// PinOf is the pin of a blob.
func PinOf(blob blobstore.ID) Pin { return Pin(blob[:8]) }

// Token is what a playback URL is signed for.
type Token struct {
	Account, ID string
	// Stream is the token of a continuous stream, which pins no sound: it goes on
	// with what the item or playlist holds.
	Stream bool
	Pin    Pin
	Expiry time.Time // in whole seconds
}

// Expiry is between one and two lives of a token from now, and the same for a
// whole life: all lookups of an item within it give one URL, so that
// mod_http_cache and mod_httapi, whose key is the URL, find what they have.
func Expiry(now time.Time, life time.Duration) time.Time {
	return now.Truncate(life).Add(2 * life)
}

// Expired says whether the token's time is over.
func (t Token) Expired(now time.Time) bool { return !now.Before(t.Expiry) }

func (t Token) sign(key []byte) string {
	version := byte(soundVersion)
	if t.Stream {
		version = streamVersion
	}
	raw := make([]byte, 0, headBytes+len(t.Account)+len(t.ID)+tagBytes)
	raw = append(raw, version)
	raw = binary.BigEndian.AppendUint32(raw, uint32(t.Expiry.Unix())) // good until 2106
	raw = append(raw, t.Pin[:]...)
	raw = append(raw, byte(len(t.Account))) // at most naming.AccountBytesMax
	raw = append(raw, t.Account...)
	raw = append(raw, t.ID...)
	raw = append(raw, tag(key, raw)...)
	return base64.RawURLEncoding.EncodeToString(raw)
}

// parse checks form and signature, in constant time for the latter, and not yet
// the expiry. It returns ErrBadToken.
func parse(key []byte, text string) (Token, error) {
	var t Token
	// The decoder skips line ends; a token has one spelling.
	if len(text) > textBytesMax || strings.ContainsAny(text, "\r\n") {
		return t, fmt.Errorf("token of %d characters: %w", len(text), fault.ErrBadToken)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) < headBytes+tagBytes {
		return t, fmt.Errorf("token is malformed: %w", fault.ErrBadToken)
	}
	body := raw[:len(raw)-tagBytes]
	if !hmac.Equal(raw[len(body):], tag(key, body)) {
		return t, fmt.Errorf("token is not ours: %w", fault.ErrBadToken)
	}
	version, n := body[0], int(body[headBytes-1])
	if version != soundVersion && version != streamVersion || len(body) < headBytes+n {
		return t, fmt.Errorf("token version %d: %w", version, fault.ErrBadToken)
	}
	t.Stream = version == streamVersion
	t.Expiry = time.Unix(int64(binary.BigEndian.Uint32(body[1:])), 0)
	copy(t.Pin[:], body[5:])
	t.Account, t.ID = string(body[headBytes:headBytes+n]), string(body[headBytes+n:])
	if err := naming.CheckItem(t.Account, t.ID); err != nil {
		return t, fmt.Errorf("token names no item: %w", fault.ErrBadToken)
	}
	return t, nil
}

func tag(key, body []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(body)
	return mac.Sum(nil)[:tagBytes]
}
