package library

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"carillon/audio"
)

// SystemAccount holds the media that every account may fall back to.
const SystemAccount = "system"

const (
	// nameShownBytesMax bounds how much of a refused name is told back: enough
	// to recognise it, too little to fill a log.
	nameShownBytesMax = 64
	// promptBytesMax and languageBytesMax bound the two parts of a prompt's
	// index row. Kazoo's longest prompt id has 38 characters, and its longest
	// language tag ("aa-bb_cc-dd") eleven.
	promptBytesMax   = 128
	languageBytesMax = 35 // the longest tag that RFC 5646 section 4.4.1 asks to support
)

// CheckAccount returns ErrBadName unless the text is an account name: a letter
// or digit, then letters, digits, '.', '_' and '-', at most AccountBytesMax.
func CheckAccount(account string) error {
	switch {
	case account == "":
		return fmt.Errorf("account is empty: %w", ErrBadName)
	case len(account) > AccountBytesMax:
		return fmt.Errorf("account of %d bytes, at most %d: %w", len(account), AccountBytesMax, ErrBadName)
	case !isAlnum(account[0]):
		return fmt.Errorf("account %s must begin with a letter or digit: %w", shown(account), ErrBadName)
	}
	for i := range len(account) {
		if c := account[i]; !isAlnum(c) && c != '.' && c != '_' && c != '-' {
			return fmt.Errorf("account %s may hold letters, digits, '.', '_' and '-' only: %w",
				shown(account), ErrBadName)
		}
	}
	return nil
}

// CheckID returns ErrBadName unless the text is an item id: at most IDBytesMax
// bytes of UTF-8 without control characters, whose segments between slashes
// are neither empty nor "." or "..".
func CheckID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("id is empty: %w", ErrBadName)
	case len(id) > IDBytesMax:
		return fmt.Errorf("id of %d bytes, at most %d: %w", len(id), IDBytesMax, ErrBadName)
	case !plainASCII(id) && !plainText(id):
		return fmt.Errorf("id %s holds control characters or is not UTF-8: %w", shown(id), ErrBadName)
	}
	for rest, more := id, true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		switch segment {
		case "":
			return fmt.Errorf("id %s has an empty segment: %w", shown(id), ErrBadName)
		case ".", "..":
			return fmt.Errorf("id %s has a segment %q: %w", shown(id), segment, ErrBadName)
		}
	}
	return nil
}

// checkItem checks both halves of an item's name.
func checkItem(account, id string) error {
	if err := CheckAccount(account); err != nil {
		return err
	}
	return CheckID(id)
}

// checkRecordingName returns ErrBadName unless the name of a ticket can stand
// in its record_url. libshout escapes all but A-Z a-z 0-9 - . / : @ [ ] _ ~,
// and what is escaped in the URL already it escapes again (freeswitch-wire.md
// 2.3), so only these come back as they were; '@' would end the password.
func checkRecordingName(name string) error {
	if err := CheckID(name); err != nil {
		return err
	}
	for i := range len(name) {
		if c := name[i]; !isAlnum(c) && !strings.ContainsRune("-./:[]_~", rune(c)) {
			return fmt.Errorf("recording name %s may hold letters, digits and -./:[]_~ only: %w",
				shown(name), ErrBadName)
		}
	}
	return nil
}

// splitExt cuts a known audio extension from an id. The format is "" when
// there is none.
func splitExt(id string) (stem string, format audio.Format) {
	for _, f := range []audio.Format{audio.FormatMP3, audio.FormatWAV, audio.FormatOgg} {
		if stem, found := strings.CutSuffix(id, f.Ext()); found && stem != "" && !strings.HasSuffix(stem, "/") {
			return stem, f
		}
	}
	return id, ""
}

// withExt is the id with the extension of its format.
func withExt(id string, format audio.Format) string {
	if _, have := splitExt(id); have == format {
		return id
	}
	return id + format.Ext()
}

// hasExt says whether the last segment of a name has any extension.
func hasExt(name string) bool {
	last := name[strings.LastIndexByte(name, '/')+1:]
	dot := strings.LastIndexByte(last, '.')
	return dot > 0 && dot < len(last)-1
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// plainASCII is the fast path of plainText: the playback path checks a name a
// thousand times a second.
func plainASCII(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

func plainText(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
}

// shown quotes a name for an error text, shortened.
func shown(s string) string {
	if len(s) > nameShownBytesMax {
		return fmt.Sprintf("%q…", s[:nameShownBytesMax])
	}
	return fmt.Sprintf("%q", s)
}
