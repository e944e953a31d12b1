package shoutd

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"carillon/audio"
	"carillon/blobstore"
	"carillon/library"
)

const (
	// lookupWait bounds how long a listener waits for its head: mod_shout
	// cannot be hung up on while it opens a stream.
	lookupWait = 5 * time.Second
	// sendBufferBytes is the kernel's buffer of one listener. Left to itself
	// it grows to 4 MiB for a client that reads fast and then stops.
	sendBufferBytes = 128 << 10
	// writePieceBytes is the most that one write deadline covers: at
	// 16 kbit/s a reader takes half a minute for it.
	writePieceBytes = 64 << 10
	// copyBytes is the buffer of a listener whose blob does not write itself.
	copyBytes = 8 << 10
	// chatterBytesMax is what a live listener may send while it listens.
	chatterBytesMax = 64 << 10
)

// stream is what a listener gets.
type stream struct {
	account, title string
	doc            *library.Document  // stored, or
	recording      *library.Recording // live or ended
	etag           string
	size           int64 // -1 for a live recording
}

func (s *stream) live() bool { return s.size < 0 }

// get serves GET and HEAD. Errors have an empty body on every path.
func (c *conn) get(ctx context.Context, r *request) {
	target, query, err := r.path()
	if err != nil {
		c.refuse(r, statusOf(err))
		return
	}
	switch target {
	case "admin/!POKE":
		c.refuse(r, http.StatusBadRequest) // what libshout takes for "speaks HTTP"
		return
	case "admin/metadata":
		c.metadata(r, query)
		return
	}
	if !c.server.allow(c.peer()) {
		c.refuse(r, http.StatusForbidden)
		return
	}
	s, err := c.find(ctx, target)
	if err != nil {
		c.server.log.Debug("nothing to play", "remote", c.remote(), "target", shown(r.target), "error", err)
		c.refuse(r, statusOf(err))
		return
	}
	c.play(ctx, r, s, query)
}

// find looks an id up as it stands, then without its extension.
func (c *conn) find(ctx context.Context, target string) (*stream, error) {
	account, id, _ := strings.Cut(target, "/")
	if account == "" || id == "" {
		return nil, library.ErrNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, lookupWait)
	defer cancel()
	m, err := c.server.library.Mount(ctx, account, id)
	if ext := path.Ext(id); missing(err) && ext != "" && len(ext) < len(path.Base(id)) {
		m, err = c.server.library.Mount(ctx, account, strings.TrimSuffix(id, ext))
	}
	if err != nil {
		return nil, err
	}
	return streamOf(m, account, id)
}

func missing(err error) bool {
	return errors.Is(err, library.ErrNotFound) || errors.Is(err, blobstore.ErrNotFound)
}

func streamOf(m library.Mount, account, id string) (*stream, error) {
	switch {
	case m.Doc != nil:
		if !isMP3(m.Doc.ContentType, &m.Doc.Audio) {
			return nil, library.ErrUnsupportedMedia
		}
		title := m.Doc.Name
		if title == "" {
			title = id
		}
		return &stream{
			account: account, title: title, doc: m.Doc, etag: m.Doc.ETag(), size: m.Doc.Size,
		}, nil
	case m.Recording != nil:
		rec := m.Recording
		if !isMP3(rec.ContentType, rec.Audio) {
			return nil, library.ErrUnsupportedMedia
		}
		title := rec.ICY["ice-name"]
		if title == "" || title == "no name" { // libshout's default
			title = rec.Name
		}
		size := rec.Size
		if rec.State == library.StateLive {
			size = -1
		}
		return &stream{account: account, title: title, recording: rec, size: size}, nil
	}
	return nil, library.ErrNotFound
}

// isMP3 trusts what was measured over what a source declared. A source that
// declares nothing sends MP3, as FreeSWITCH does.
func isMP3(contentType string, info *audio.Info) bool {
	if info != nil && info.Format != "" {
		return info.Format == audio.FormatMP3
	}
	kind, _, _ := strings.Cut(contentType, ";")
	switch strings.ToLower(strings.TrimSpace(kind)) {
	case "", "audio/mpeg", "audio/mp3", "audio/mpeg3", "audio/x-mpeg", "audio/x-mp3",
		"application/octet-stream":
		return true
	}
	return false
}

// play answers with the head and, for a GET, the sound.
func (c *conn) play(ctx context.Context, r *request, s *stream, query url.Values) {
	if r.method == methodHead {
		if c.send(s.head(r)) == nil {
			c.linger()
		}
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	blob, err := c.open(ctx, s, query.Get("from"))
	if err != nil {
		c.server.log.Warn("item not opened", "remote", c.remote(), "target", shown(r.target), "error", err)
		c.refuse(r, statusOf(err))
		return
	}
	defer func() { _ = blob.Close() }()
	m := c.server.metrics
	m.listeners.Inc()
	m.listenersLive.Inc()
	defer m.listenersLive.Dec()
	_ = c.tcp.SetWriteBuffer(sendBufferBytes)
	if err := c.send(s.head(r)); err != nil {
		return
	}
	began := time.Now()
	out := &stallWriter{conn: c.tcp, stall: c.server.cfg.WriteStall, sent: m.listenerBytes}
	err = c.deliver(cancel, s, r.icyMetadata, blob, out)
	c.server.log.Debug("listener ended", "remote", c.remote(), "target", shown(r.target),
		"live", s.live(), "bytes", out.n, "duration", time.Since(began), "error", err)
}

func (c *conn) open(ctx context.Context, s *stream, from string) (io.ReadCloser, error) {
	if s.doc != nil {
		return c.server.library.OpenItem(ctx, *s.doc)
	}
	start := library.FromStart
	if from == string(library.FromNow) && s.live() {
		start = library.FromNow
	}
	blob, rec, err := c.server.library.OpenRecording(ctx, s.recording.ID, start)
	if err != nil {
		return nil, err
	}
	if s.size >= 0 {
		s.size = rec.Size
	}
	return blob, nil
}

// deliver writes the sound and ends the connection.
func (c *conn) deliver(
	cancel context.CancelFunc, s *stream, metadata bool, blob io.Reader, out *stallWriter,
) error {
	rest := c.in.buffered()
	c.giveBack()
	var gone chan struct{}
	if s.live() {
		gone = make(chan struct{})
		c.server.wg.Go(func() {
			defer close(gone)
			defer cancel()
			watch(c.tcp, rest)
		})
	}
	var w io.Writer = out
	if metadata {
		w = newICYWriter(w, s.title)
	}
	err := pour(w, blob, s.live())
	if gone == nil {
		if err == nil {
			c.linger()
		}
		return err
	}
	// The watcher takes what the client still sends, so that the close is none
	// with unread bytes: those reset the connection before the tail is read.
	_ = c.tcp.CloseWrite()
	_ = c.tcp.SetReadDeadline(time.Now().Add(lingerWait))
	<-gone
	return err
}

// pour copies blob to w; a live one with its lead.
func pour(w io.Writer, blob io.Reader, live bool) error {
	if !live {
		return copyTo(w, blob)
	}
	lead := &leadWriter{next: w}
	if err := copyTo(lead, blob); err != nil {
		return err
	}
	return lead.flush()
}

func copyTo(w io.Writer, blob io.Reader) error {
	if wt, ok := blob.(io.WriterTo); ok {
		_, err := wt.WriteTo(w)
		return err
	}
	_, err := io.CopyBuffer(w, blob, make([]byte, copyBytes))
	return err
}

// watch returns when the client of a live stream leaves: while nothing is
// written, a FIN or reset shows only in a read.
func watch(r io.Reader, taken int) {
	var scratch [64]byte
	for taken < chatterBytesMax {
		n, err := r.Read(scratch[:])
		if err != nil {
			return
		}
		taken += n
	}
}

// head is the answer's head. It is never `ICY 200 OK`, which curl refuses.
func (s *stream) head(r *request) []byte {
	p := statusLine(make([]byte, 0, 512), r.http11, http.StatusOK)
	p = append(p, "Content-Type: audio/mpeg\r\nConnection: close\r\nAccept-Ranges: none\r\n"...)
	if s.live() {
		p = append(p, "Cache-Control: no-cache, no-store\r\n"...)
	}
	if s.etag != "" {
		p = append(append(append(p, "ETag: "...), s.etag...), "\r\n"...)
	}
	p = append(append(append(p, "icy-name: "...), plainText(s.title)...), "\r\nicy-pub: 0\r\n"...)
	switch {
	case r.icyMetadata:
		p = append(strconv.AppendInt(append(p, "icy-metaint: "...), icyInterval, 10), "\r\n"...)
	case !s.live():
		p = append(strconv.AppendInt(append(p, "Content-Length: "...), s.size, 10), "\r\n"...)
	}
	return append(p, "\r\n"...)
}
