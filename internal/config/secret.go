package config

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// redacted stands for a secret wherever it is printed.
const redacted = "***"

// Secret is a password, token or key. However it is printed, logged or
// encoded, it shows as ***; only Reveal gives it away. An empty one shows as
// nothing, so that one can see that it is missing.
type Secret struct{ value string }

// NewSecret wraps value.
func NewSecret(value string) Secret { return Secret{value} }

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return s.value }

// IsZero says whether there is no secret.
func (s Secret) IsZero() bool { return s.value == "" }

// Equal compares in constant time.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.value), []byte(other.value)) == 1
}

// UnmarshalText takes the secret as it is.
func (s *Secret) UnmarshalText(text []byte) error {
	if strings.ContainsAny(string(text), "\r\n\x00") {
		return fmt.Errorf("a secret holds a line break or a NUL: %w", ErrValue)
	}
	s.value = string(text)
	return nil
}

// MarshalText does not write the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String does not print the secret.
func (s Secret) String() string {
	if s.value == "" {
		return ""
	}
	return redacted
}

// Format answers every verb with what String prints: %#v, %x and %d too.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue does not log the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// SourceLogin is a configured account for SHOUT sources without a ticket:
// recordings of that user land in the account.
type SourceLogin struct {
	User     string `toml:"user"`
	Password Secret `toml:"password"`
	Account  string `toml:"account"`
}

// UnmarshalText reads USER:PASSWORD@ACCOUNT, the form of the environment. The
// password may hold @ and :, the user no : and the account no @.
func (l *SourceLogin) UnmarshalText(text []byte) error {
	login, account, ok := cutLast(string(text), "@")
	user, password, ok2 := strings.Cut(login, ":")
	if !ok || !ok2 {
		return fmt.Errorf("a source login is not USER:PASSWORD@ACCOUNT: %w", ErrValue)
	}
	*l = SourceLogin{User: user, Password: NewSecret(password), Account: account}
	return nil
}

// String shows the login without its password.
func (l SourceLogin) String() string {
	return l.User + ":" + l.Password.String() + "@" + l.Account
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
