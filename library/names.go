package library

import (
	"fmt"
	"strings"

	"carillon/audio"
	"carillon/library/naming"
)

// SystemAccount holds the media that every account may fall back to.
const SystemAccount = "system"

const (
	// promptBytesMax and languageBytesMax bound the two parts of a prompt's
	// index row. Kazoo's longest prompt id has 38 characters, and its longest
	// language tag ("aa-bb_cc-dd") eleven.
	promptBytesMax   = 128
	languageBytesMax = 35 // the longest tag that RFC 5646 section 4.4.1 asks to support
)

// checkRecordingName returns ErrBadName unless the name of a ticket can stand
// in its record_url. libshout escapes all but A-Z a-z 0-9 - . / : @ [ ] _ ~,
// and what is escaped in the URL already it escapes again (freeswitch-wire.md
// 2.3), so only these come back as they were; '@' would end the password.
func checkRecordingName(name string) error {
	if err := naming.CheckID(name); err != nil {
		return err
	}
	for i := range len(name) {
		if c := name[i]; !naming.IsAlnum(c) && !strings.ContainsRune("-./:[]_~", rune(c)) {
			return fmt.Errorf("recording name %s may hold letters, digits and -./:[]_~ only: %w",
				naming.Shown(name), ErrBadName)
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
