package naming

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"carillon/library/fault"
)

const (
	// AccountBytesMax bounds an account name; Kazoo's are 32 hex digits.
	AccountBytesMax = 64
	// IDBytesMax bounds an item id (design section 5).
	IDBytesMax = 255
	// shownBytesMax bounds how much of a refused name is told back: enough
	// to recognise it, too little to fill a log.
	shownBytesMax = 64
)

// CheckAccount returns [fault.ErrBadName] unless the text is an account name: a letter
// or digit, then letters, digits, '.', '_' and '-', at most AccountBytesMax.
func CheckAccount(account string) error {
	switch {
	case account == "":
		return fmt.Errorf("account is empty: %w", fault.ErrBadName)
	case len(account) > AccountBytesMax:
		return fmt.Errorf("account of %d bytes, at most %d: %w", len(account), AccountBytesMax, fault.ErrBadName)
	case !IsAlnum(account[0]):
		return fmt.Errorf("account %s must begin with a letter or digit: %w", Shown(account), fault.ErrBadName)
	}
	for i := range len(account) {
		if c := account[i]; !IsAlnum(c) && c != '.' && c != '_' && c != '-' {
			return fmt.Errorf("account %s may hold letters, digits, '.', '_' and '-' only: %w",
				Shown(account), fault.ErrBadName)
		}
	}
	return nil
}

// CheckID returns [fault.ErrBadName] unless the text is an item id: at most IDBytesMax
// bytes of UTF-8 without control characters, whose segments between slashes
// are neither empty nor "." or "..".
func CheckID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("id is empty: %w", fault.ErrBadName)
	case len(id) > IDBytesMax:
		return fmt.Errorf("id of %d bytes, at most %d: %w", len(id), IDBytesMax, fault.ErrBadName)
	case !plainASCII(id) && !IsPlain(id):
		return fmt.Errorf("id %s holds control characters or is not UTF-8: %w", Shown(id), fault.ErrBadName)
	}
	for rest, more := id, true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		switch segment {
		case "":
			return fmt.Errorf("id %s has an empty segment: %w", Shown(id), fault.ErrBadName)
		case ".", "..":
			return fmt.Errorf("id %s has a segment %q: %w", Shown(id), segment, fault.ErrBadName)
		}
	}
	return nil
}

// CheckItem checks both halves of an item's name.
func CheckItem(account, id string) error {
	if err := CheckAccount(account); err != nil {
		return err
	}
	return CheckID(id)
}

// IsAlnum says whether c is an ASCII letter or digit.
func IsAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// plainASCII is the fast path of IsPlain: the playback path checks a name a
// thousand times a second.
func plainASCII(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// IsPlain says whether s is UTF-8 without control characters.
func IsPlain(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
}

// Shown quotes a name for an error text, shortened.
func Shown(s string) string {
	if len(s) > shownBytesMax {
		return fmt.Sprintf("%q…", s[:shownBytesMax])
	}
	return fmt.Sprintf("%q", s)
}
