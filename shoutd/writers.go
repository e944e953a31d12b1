package shoutd

import (
	"fmt"
	"io"
	"net"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// icyInterval is Icecast's own metadata interval.
	icyInterval = 16000
	// icyBlockUnit and icyBlockUnitsMax are the format's: one length byte
	// counts units of 16 bytes.
	icyBlockUnit     = 16
	icyBlockUnitsMax = 255
)

// stallWriter writes to a listener that may pause for as long as stall.
type stallWriter struct {
	conn  net.Conn
	stall time.Duration
	sent  prometheus.Counter
	armed time.Time
	n     int64
}

func (w *stallWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		now := time.Now()
		if part := w.stall / rearmParts; now.Sub(w.armed) >= part {
			w.armed = now
			if err := w.conn.SetWriteDeadline(now.Add(w.stall + part)); err != nil {
				return done, err
			}
		}
		n, err := w.conn.Write(p[done:min(len(p), done+writePieceBytes)])
		done += n
		w.n += int64(n)
		w.sent.Add(float64(n))
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// icyWriter puts a metadata block after every icyInterval bytes of sound: the
// first carries the title, the others say that nothing changed.
type icyWriter struct {
	next  io.Writer
	left  int
	block []byte
}

func newICYWriter(next io.Writer, title string) *icyWriter {
	return &icyWriter{next: next, left: icyInterval, block: icyBlock(title)}
}

func (w *icyWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := w.next.Write(p[done:min(len(p), done+w.left)])
		done += n
		w.left -= n
		if err != nil {
			return done, err
		}
		if w.left > 0 {
			continue
		}
		if _, err := w.next.Write(w.block); err != nil {
			return done, err
		}
		w.left, w.block = icyInterval, []byte{0}
	}
	return done, nil
}

// icyBlock is the metadata block for a title. A `';` in the title would end it
// for every player, so its quotes become typographic ones.
func icyBlock(title string) []byte {
	title = strings.ReplaceAll(plainText(title), "'", "’")
	const frame = len("StreamTitle='';")
	for len(title)+frame > icyBlockUnit*icyBlockUnitsMax {
		_, size := utf8.DecodeLastRuneInString(title)
		title = title[:len(title)-size]
	}
	text := fmt.Sprintf("StreamTitle='%s';", title)
	units := (len(text) + icyBlockUnit - 1) / icyBlockUnit
	block := make([]byte, 1+units*icyBlockUnit)
	block[0] = byte(units)
	copy(block[1:], text)
	return block
}
