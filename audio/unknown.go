package audio

import (
	"bytes"
	"errors"
	"fmt"

	"carillon/audio/mpeg"
)

// sniffedBytes of a file are kept to say what it is, should it be no audio that
// is stored. An "ftyp" of MP4 is there by then.
const sniffedBytes = 12

// unknown is ErrUnknownFormat, with what the file seems to be: who uploads a
// file that his player plays wants to know what to convert.
func (p *Prober) unknown() error {
	what := ""
	switch p.kind {
	case kindWAV:
		if tag := p.wav.otherTag; tag != 0 {
			what = fmt.Sprintf("WAV of coding 0x%04x with %d bits", tag, p.wav.otherBits)
		}
		if p.wav.otherTag == wavTagMP3 {
			what = "MP3 in a WAV: store it without that"
		}
	case kindMP3:
		if what = p.mp3.other; what == "" {
			what = otherFormat(p.head[:min(p.total, sniffedBytes)])
		}
	case kindSniff, kindOgg, kindUnknown:
		what = otherFormat(p.head[:min(p.total, sniffedBytes)])
	}
	if what == "" {
		return ErrUnknownFormat
	}
	return fmt.Errorf("%w: this looks like %s", ErrUnknownFormat, what)
}

// otherFormat names formats that are met where telephones are, and are not
// stored, by their first bytes.
func otherFormat(head []byte) string {
	for _, f := range []struct {
		at          int
		magic, name string
	}{
		{0, "fLaC", "FLAC"},
		{4, "ftyp", "MP4 or M4A"},
		{0, "#!AMR", "AMR"},
		{0, ".snd", "Sun audio (.au)"},
		{0, "FORM", "AIFF"},
		{0, "OggS", "Ogg without Vorbis or Opus"},
		{0, "\x1aE\xdf\xa3", "WebM or Matroska"},
		{0, "caff", "CAF"},
		{0, "<", "HTML or XML"},
		{0, "{", "JSON"},
	} {
		if len(head) >= f.at && bytes.HasPrefix(head[f.at:], []byte(f.magic)) {
			return f.name
		}
	}
	return ""
}

// otherFrame names what a header that is none of layer III begins, or is empty.
func otherFrame(b []byte) string {
	h, err := mpeg.ParseHeader(b)
	switch {
	case errors.Is(err, mpeg.ErrFreeFormat):
		return "MPEG audio of free format"
	case err == nil && h.Layer != 3:
		return fmt.Sprintf("MPEG audio of layer %s", [...]string{"", "I", "II"}[h.Layer])
	case b[1]&0xF6 == 0xF0: // 12 bits of sync and no layer
		return "AAC (ADTS)"
	}
	return ""
}
