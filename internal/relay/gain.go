package relay

import (
	"bytes"
	"fmt"
	"io"

	"carillon/audio"
	"carillon/internal/audience"
)

// louderPieceBytes are made louder at once: what a listener does not take then
// is kept for him.
const louderPieceBytes = 4 << 10

// trackKey names what the listeners of a recording share: those who hear it
// louder by as many steps have it in common.
func trackKey(id string, steps int) string {
	if steps == 0 {
		return "recording/" + id
	}
	return fmt.Sprintf("recording/%s %+d", id, steps)
}

// louder is a Source of MP3 that is made louder on its way. Its offsets are
// those of the source: the length does not change.
type louder struct {
	audience.Source

	dB   float64
	gain *audio.GainWriter
	made bytes.Buffer // and not taken yet
	from int64        // what the source is to give next
	at   int64        // what is due next
}

func newLouder(source audience.Source, dB float64) *louder {
	l := &louder{Source: source, dB: dB}
	l.gain = audio.NewGainWriter(&l.made, dB)
	return l
}

// Seek begins anew, unless it is where it is.
func (l *louder) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += l.at
	case io.SeekEnd:
		end, err := l.Source.Seek(offset, whence)
		if err != nil {
			return 0, err
		}
		offset = end
	}
	if offset != l.at {
		l.gain = audio.NewGainWriter(&l.made, l.dB)
		l.made.Reset()
		l.from, l.at = offset, offset
	}
	return offset, nil
}

// WriteTo goes on where the last one ended, whatever the writer took.
func (l *louder) WriteTo(w io.Writer) (int64, error) {
	before := l.at
	err := l.handOn(w)
	if err == nil {
		_, err = l.Source.Seek(l.from, io.SeekStart)
	}
	if err == nil {
		_, err = l.Source.WriteTo(louderWriter{l, w})
	}
	if err == nil {
		err = l.gain.Flush()
	}
	if err == nil {
		err = l.handOn(w)
	}
	return l.at - before, err
}

func (l *louder) handOn(w io.Writer) error {
	for l.made.Len() > 0 {
		n, err := w.Write(l.made.Bytes())
		l.made.Next(n)
		l.at += int64(n)
		if err != nil {
			return err
		}
	}
	return nil
}

// louderWriter takes what the source gives.
type louderWriter struct {
	*louder

	to io.Writer
}

func (w louderWriter) Write(p []byte) (int, error) {
	taken := 0
	for taken < len(p) {
		piece := p[taken:min(taken+louderPieceBytes, len(p))]
		n, err := w.gain.Write(piece)
		taken += n
		w.from += int64(n)
		if err == nil {
			err = w.handOn(w.to)
		}
		if err != nil {
			return taken, err
		}
	}
	return taken, nil
}
