package audience

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// ICYInterval is the sound between two metadata blocks, Icecast's own.
	ICYInterval = 16000
	// icyBlockUnit and icyBlockUnitsMax are the format's: one length byte
	// counts units of 16 bytes.
	icyBlockUnit     = 16
	icyBlockUnitsMax = 255
)

// ICYBlock is the metadata block for a title. A `';` in the title would end it
// for every player, so its quotes become typographic ones.
func ICYBlock(title string) []byte {
	const begin, end = "StreamTitle='", "';"
	title = strings.Map(func(r rune) rune {
		switch {
		case r == '\'':
			return '’'
		case unicode.IsControl(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(title, ""))
	for len(begin)+len(title)+len(end) > icyBlockUnit*icyBlockUnitsMax {
		_, size := utf8.DecodeLastRuneInString(title)
		title = title[:len(title)-size]
	}
	text := begin + title + end
	units := (len(text) + icyBlockUnit - 1) / icyBlockUnit
	block := make([]byte, 1+units*icyBlockUnit)
	block[0] = byte(units)
	copy(block[1:], text)
	return block
}
