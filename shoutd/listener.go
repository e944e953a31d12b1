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
	// chatterBytesMax is what a live listener may send while it listens.
	chatterBytesMax = 64 << 10
)

// stream is what a listener gets.
type stream struct {
	account, title string
	stored         *library.Rendition // an item or an ended recording, or
	recording      *library.Recording // a live one
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
	case "admin/metadata", "admin.cgi":
		c.metadata(r, query)
		return
	}
	if !c.server.allow(c.peer()) {
		c.refuse(r, http.StatusForbidden)
		return
	}
	s, err := c.find(ctx, target, query)
	if err != nil {
		c.server.log.Debug("nothing to play", "remote", c.remote(), "target", shown(r.target), "error", err)
		c.refuse(r, statusOf(err))
		return
	}
	c.play(ctx, r, s, query)
}

// find looks an id up as it stands, then without its extension.
func (c *conn) find(ctx context.Context, target string, query url.Values) (*stream, error) {
	account, id, _ := strings.Cut(target, "/")
	if account == "" || id == "" {
		return nil, library.ErrNotFound
	}
	form, err := library.ParseForm(audio.FormatMP3.Ext(), query.Get)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lookupWait)
	defer cancel()
	m, _, err := c.server.library.Playing(ctx, account, id)
	if ext := path.Ext(id); missing(err) && ext != "" && len(ext) < len(path.Base(id)) {
		m, _, err = c.server.library.Playing(ctx, account, strings.TrimSuffix(id, ext))
	}
	if err != nil {
		return nil, err
	}
	switch {
	case m.Doc != nil:
		return c.itemStream(ctx, m.Doc, form)
	case m.Recording != nil:
		return c.recordingStream(ctx, m.Recording, form)
	}
	return nil, library.ErrNotFound
}

func missing(err error) bool {
	return errors.Is(err, library.ErrNotFound) || errors.Is(err, blobstore.ErrNotFound)
}

// itemStream is an item as MP3, whatever it is stored as: mod_shout decodes
// what comes as MP3.
func (c *conn) itemStream(ctx context.Context, d *library.Document, form library.Form) (*stream, error) {
	r, err := c.server.library.Render(ctx, d, form)
	if err != nil {
		return nil, err
	}
	title := d.Name
	if title == "" {
		title = d.ID
	}
	return &stream{account: d.Account, title: title, stored: &r, etag: r.ETag(), size: r.Size}, nil
}

func (c *conn) recordingStream(
	ctx context.Context, rec *library.Recording, form library.Form,
) (*stream, error) {
	s := &stream{account: rec.Account, title: rec.ICY["ice-name"], recording: rec, size: rec.Size}
	if s.title == "" || s.title == "no name" { // libshout's default
		s.title = rec.Name
	}
	switch {
	case rec.State == library.StateLive:
		s.size = -1
	case rec.SHA256 != "" && rec.Audio != nil && rec.Audio.Format != "":
		r, err := c.server.library.RenderRecording(ctx, rec, form)
		if err != nil {
			return nil, err
		}
		s.stored, s.etag, s.size = &r, r.ETag(), r.Size
		return s, nil
	}
	if !isMP3(rec.ContentType, rec.Audio) {
		return nil, library.ErrUnsupportedMedia
	}
	return s, nil
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
	out, err := newSocketWriter(c.tcp, c.server.cfg.WriteStall, m.listenerBytes)
	if err != nil {
		return
	}
	err = c.deliver(ctx, cancel, s, r.icyMetadata, blob, out)
	c.server.log.Debug("listener ended", "remote", c.remote(), "target", shown(r.target),
		"live", s.live(), "bytes", out.n, "duration", time.Since(began), "error", err)
}

func (c *conn) open(ctx context.Context, s *stream, from string) (Blob, error) {
	if s.stored != nil {
		return c.server.library.OpenRendition(ctx, *s.stored)
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
	ctx context.Context, cancel context.CancelFunc, s *stream, metadata bool, blob Blob, out *socketWriter,
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
	err := out.play(blob, s, metadata, ctx.Done())
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

// play sends the blob: a live one with its lead and in few pieces, and with
// metadata if that was asked for.
func (w *socketWriter) play(blob Blob, s *stream, metadata bool, gone <-chan struct{}) error {
	var out io.Writer = w
	done := func() error { return nil }
	if metadata {
		icy := newICYWriter(out, s.title)
		out, done = icy, icy.flush
	}
	if s.live() {
		lead := &leadWriter{next: &tailWriter{next: out, gone: gone}}
		sound := done
		out, done = lead, func() error {
			if err := lead.flush(); err != nil {
				return err
			}
			return sound()
		}
	}
	if err := w.pour(out, blob); err != nil {
		return err
	}
	return w.finish(done)
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
