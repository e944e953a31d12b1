package library

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
)

// secretShown is what every secret prints as.
const secretShown = "***"

// Secret is a text that prints as *** in every format, JSON among them. In
// JSON that comes in, *** means: as it was.
type Secret string

// String hides the text.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return secretShown
}

// GoString hides the text from %#v.
func (s Secret) GoString() string { return s.String() }

// MarshalText hides the text from encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue hides the text from logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Reveal returns the text, for the one who must send it.
func (s Secret) Reveal() string { return string(s) }

// saltBytes make two equal passwords different.
const saltBytes = 16

// hashPassword returns what is kept of a listener's password: its salt and a
// SHA-256. A slow hash would cost a core at a thousand listeners a second, and
// what it protects is music: an operator is asked to choose a random password.
func hashPassword(password string) Secret {
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // never fails, see crypto/rand.Read
	return Secret(hex.EncodeToString(salt) + ":" + saltedHash(salt, password))
}

func saltedHash(salt []byte, password string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s", salt, password))
	return hex.EncodeToString(sum[:])
}

// checkPassword compares in constant time.
func checkPassword(kept Secret, password string) bool {
	text, want, _ := strings.Cut(kept.Reveal(), ":")
	salt, err := hex.DecodeString(text)
	if err != nil || want == "" {
		return false
	}
	return subtle.ConstantTimeCompare([]byte(saltedHash(salt, password)), []byte(want)) == 1
}
