package shoutd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"carillon/library"
)

// The protocol of SHOUTcast 1, which sources of the 1990s and many after them
// speak: a line with the password, `OK2`, headers, and then the sound until the
// connection ends. It has a port of its own, by custom the one after the port
// for listeners, because nothing in its first line says what it is.
const (
	icyWelcome = "OK2\r\nicy-caps:11\r\n\r\n"
	icyDenied  = "invalid password\r\n"
	// icyMount is where a source goes that names no mount: Icecast's default.
	icyMount = "stream"
	// icyLineBytesMax bounds the password line: a ticket's has 60 bytes.
	icyLineBytesMax = 512
)

// serveICY answers one connection of the SHOUTcast port. Requests of HTTP are
// served there as well: some encoders send their metadata to it.
func (c *conn) serveICY(ctx context.Context) {
	defer c.opened(ctx)()
	c.in.deadline(time.Now().Add(c.server.cfg.HeadWait))
	line, err := c.in.peekLine(icyLineBytesMax)
	if err != nil {
		c.badHead(headFault(err, c.in.buffered() > 0, http.StatusRequestURITooLong))
		return
	}
	if bytes.Contains(line, []byte(" HTTP/")) || bytes.HasSuffix(line, []byte(" ICE/1.0")) {
		c.requests(ctx)
		return
	}
	password := string(line)
	_, _ = c.in.line() // what was peeked at
	c.icySource(ctx, password)
}

// icySource claims with the password line, lets the source in and takes its
// sound.
func (c *conn) icySource(ctx context.Context, password string) {
	_, alone, more := strings.Cut(password, ":")
	if !more {
		alone = password
	}
	src := &source{conn: c, mount: icyMount, credential: secretOf(password), password: secretOf(alone)}
	if err := c.claimAs(ctx, src, library.SourceRequest{
		Mount: icyMount, Password: password, PasswordOnly: true, RemoteAddr: c.remote(),
	}); err != nil {
		c.server.log.Info("source refused", "remote", c.remote(), "protocol", "icy",
			"status", statusOf(err), "error", err)
		c.server.metrics.refused(statusOf(err))
		if c.send([]byte(icyDenied)) == nil {
			c.linger()
		}
		return
	}
	r := &request{method: methodSource, target: "/" + src.mount, length: -1, contentType: "audio/mpeg"}
	src.runWith(ctx, r, func() (bool, error) { return true, c.icyHead(r, src.session) })
}

// icyHead lets the source in and reads what it says of itself.
func (c *conn) icyHead(r *request, session Session) error {
	if err := c.send([]byte(icyWelcome)); err != nil {
		return err
	}
	c.in.deadline(time.Now().Add(c.server.cfg.HeadWait))
	defer c.in.deadline(time.Time{})
	total := 0
	for range headerLinesMax {
		line, err := c.in.line()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if len(line) == 0 {
			session.SetTitle("", r.icy)
			return nil
		}
		if total += len(line); total > headBytesMax {
			break
		}
		if err := r.parseHeader(line); err != nil {
			return err
		}
		r.length, r.chunked = -1, false // it has neither
	}
	return &headError{http.StatusRequestHeaderFieldsTooLarge, "head too large"}
}

// peekLine returns the next line without taking it. It fails at once on what
// no text begins with.
func (in *input) peekLine(limit int) ([]byte, error) {
	for seen := 0; ; {
		p := in.buf[in.r:in.w]
		for ; seen < len(p); seen++ {
			switch b := p[seen]; {
			case b == '\n':
				return bytes.TrimSuffix(p[:seen], []byte{'\r'}), nil
			case b < ' ' && b != '\t' && b != '\r' || b == 0x7f:
				return nil, errBinary
			case seen > limit && !bytes.Contains(p, []byte(" ")):
				return nil, errLineTooLong // a request line may be longer
			}
		}
		if err := in.fill(); err != nil {
			if errors.Is(err, io.EOF) && seen > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// titleOf is the title that a metadata update brings: UTF-8, or Latin-1 if it
// is not, or says so; Icecast and its forks disagree about the default.
func titleOf(song, artist, title, charset string) string {
	text := song
	switch {
	case text == "" && artist != "" && title != "":
		text = artist + " - " + title
	case text == "":
		text = artist + title
	}
	return plainText(fromLatin1(text, charset))
}

func fromLatin1(text, charset string) string {
	latin := strings.EqualFold(charset, "iso-8859-1") || strings.EqualFold(charset, "latin1")
	if !latin && utf8.ValidString(text) {
		return text
	}
	runes := make([]rune, 0, len(text))
	for _, b := range []byte(text) {
		runes = append(runes, rune(b))
	}
	return string(runes)
}
