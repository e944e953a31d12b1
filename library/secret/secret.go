package secret

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
)

// Shown is what every secret prints as.
const Shown = "***"

// Text is a text that prints as *** in every format, JSON among them. In
// JSON that comes in, *** means: as it was.
type Text string

// String hides the text.
func (s Text) String() string {
	if s == "" {
		return ""
	}
	return Shown
}

// GoString hides the text from %#v.
func (s Text) GoString() string { return s.String() }

// MarshalText hides the text from encoders.
func (s Text) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue hides the text from logs.
func (s Text) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Reveal returns the text, for the one who must send it.
func (s Text) Reveal() string { return string(s) }

// saltBytes make two equal passwords different.
const saltBytes = 16

// Hash returns what is kept of a listener's password: its salt and a
// SHA-256. A slow hash would cost a core at a thousand listeners a second, and
// what it protects is music: an operator is asked to choose a random password.
func Hash(password string) Text {
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // never fails, see crypto/rand.Read
	return Text(hex.EncodeToString(salt) + ":" + saltedHash(salt, password))
}

func saltedHash(salt []byte, password string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s", salt, password))
	return hex.EncodeToString(sum[:])
}

// Check says whether the password is the one that was kept, in constant time.
func Check(kept Text, password string) bool {
	text, want, _ := strings.Cut(kept.Reveal(), ":")
	salt, err := hex.DecodeString(text)
	if err != nil || want == "" {
		return false
	}
	return subtle.ConstantTimeCompare([]byte(saltedHash(salt, password)), []byte(want)) == 1
}
