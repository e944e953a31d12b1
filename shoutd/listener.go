package shoutd

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"carillon/audio"
	"carillon/blobstore"
	"carillon/internal/audience"
	"carillon/internal/relay"
	"carillon/library"
)

const (
	// lookupWait bounds how long a listener waits for its head: mod_shout
	// cannot be hung up on while it opens a stream.
	lookupWait = 5 * time.Second
	// liveBufferBytes is that of a listener of what goes on: what lies there is
	// not counted as being behind. The kernel doubles it.
	liveBufferBytes = 16 << 10
)

// stream is what a listener gets.
type stream struct {
	account, id, title string
	stored             *library.Rendition // an item or an ended recording, or
	recording          *library.Recording // a live one, or
	station            bool               // a continuous stream
	form               library.Form
	etag               string
	size               int64 // -1 for what goes on
}

func (s *stream) live() bool { return s.size < 0 }

// listening is a listener on his way to the sound.
type listening struct {
	stream   *stream
	target   string
	from     string
	head     []byte
	metadata bool
	answered bool
	began    time.Time
	left     []func() // called once, when he has left
}

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
	s, err := c.find(ctx, r, target, query)
	if err != nil {
		c.server.log.Debug("nothing to play", "remote", c.remote(), "target", shownTarget(r.target), "error", err)
		c.refuse(r, statusOf(err))
		return
	}
	c.play(ctx, r, s, query)
}

// find looks an id up as it stands, then without its extension.
func (c *conn) find(ctx context.Context, r *request, target string, query url.Values) (*stream, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupWait)
	defer cancel()
	network := c.server.allow(c.peer())
	account, id, _ := strings.Cut(target, "/")
	if account == "" || id == "" {
		if !network {
			return nil, library.ErrForbidden
		}
		return nil, library.ErrNotFound
	}
	if err := c.server.library.MayListen(ctx, library.Listening{
		Account: account, ID: id, Network: network,
		User: r.user, Password: r.password, Basic: r.basic, Token: query.Get("token"),
	}); err != nil {
		return nil, err
	}
	form, err := library.ParseForm(audio.FormatMP3.Ext(), query.Get)
	if err != nil {
		return nil, err
	}
	extant, err := library.Extant(query.Get("stream"))
	if err != nil {
		return nil, err
	}
	m, _, err := c.server.library.Playing(ctx, account, id)
	if ext := path.Ext(id); missing(err) && ext != "" && len(ext) < len(path.Base(id)) {
		id = strings.TrimSuffix(id, ext)
		m, _, err = c.server.library.Playing(ctx, account, id)
	}
	if err != nil {
		return nil, err
	}
	s, err := c.streamOf(ctx, m, form, extant)
	if err != nil {
		return nil, err
	}
	s.account, s.id, s.form = account, id, form
	if s.title == "" {
		s.title = id
	}
	return s, nil
}

// streamOf is what a mount plays: always MP3, for mod_shout decodes whatever
// comes as that.
func (c *conn) streamOf(
	ctx context.Context, m library.Mount, form library.Form, extant bool,
) (*stream, error) {
	live := m.Recording != nil && m.Recording.State == library.StateLive
	switch {
	case m.Playlist != nil:
		return &stream{title: m.Playlist.Name, station: true, size: -1}, nil
	case m.Doc != nil && extant:
		return &stream{title: m.Doc.Name, station: true, size: -1}, nil
	case m.Doc != nil:
		r, err := c.server.library.Render(ctx, m.Doc, form)
		return &stream{title: m.Doc.Name, stored: &r, etag: r.ETag(), size: r.Size}, err
	case m.Recording == nil:
		return nil, library.ErrNotFound
	case extant && !live:
		return &stream{title: relay.Title(m.Recording), station: true, size: -1}, nil
	}
	return c.recordingStream(ctx, m.Recording, form)
}

func missing(err error) bool {
	return errors.Is(err, library.ErrNotFound) || errors.Is(err, blobstore.ErrNotFound)
}

func (c *conn) recordingStream(
	ctx context.Context, rec *library.Recording, form library.Form,
) (*stream, error) {
	s := &stream{title: relay.Title(rec), recording: rec, size: rec.Size}
	switch {
	case rec.State == library.StateLive:
		s.size = -1
	case rec.SHA256 != "" && rec.Audio != nil && rec.Audio.Format != "":
		r, err := c.server.library.RenderRecording(ctx, rec, form)
		s.stored, s.etag, s.size = &r, r.ETag(), r.Size
		return s, err
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
	leave, err := c.server.audience.Admit(s.account + "/" + s.id)
	if err != nil {
		c.refuse(r, http.StatusServiceUnavailable)
		return
	}
	l := &listening{
		stream: s, target: shownTarget(r.target), from: query.Get("from"), head: s.head(r), metadata: r.icyMetadata,
		began: time.Now(), left: []func(){leave},
	}
	switch {
	case s.station:
		err = c.listenStation(ctx, l)
	case s.live():
		if err = c.listenLive(ctx, l); errors.Is(err, relay.ErrNotLive) {
			err = c.listenStored(l) //nolint:contextcheck // see there
		}
	default:
		err = c.listenStored(l) //nolint:contextcheck // see there
	}
	if c.handed {
		return
	}
	for _, leave := range l.left {
		leave()
	}
	if err != nil && !l.answered {
		c.server.log.Warn("item not opened", "remote", c.remote(), "target", l.target, "error", err)
		c.refuse(r, statusOf(err))
	}
}

// sendHead answers and counts a listener.
func (c *conn) sendHead(l *listening) error {
	m := c.server.metrics
	m.listeners.Inc()
	m.listenersLive.Inc()
	l.left = append(l.left, m.listenersLive.Dec)
	l.answered = true
	size := audience.NarrowBytes
	if l.stream.live() {
		size = liveBufferBytes
	}
	_ = c.tcp.SetWriteBuffer(size)
	return c.send(l.head)
}

func (c *conn) open(ctx context.Context, s *stream) (Blob, error) {
	if s.stored != nil {
		return c.server.library.OpenRendition(ctx, *s.stored)
	}
	blob, rec, err := c.server.library.OpenRecording(ctx, s.recording.ID, library.FromStart)
	if err != nil {
		return nil, err
	}
	if s.size >= 0 {
		s.size = rec.Size
	}
	return blob, nil
}

// listenStored hands a listener of what is there over to the audience, which
// sends it as fast as he takes it, and waits for minutes while he takes nothing.
func (c *conn) listenStored(l *listening) error {
	// It is read for as long as he listens, not as long as the goroutine runs.
	blob, err := c.open(c.server.audience.Context(), l.stream)
	if err != nil {
		return err
	}
	if err := c.sendHead(l); err != nil {
		return errors.Join(err, blob.Close())
	}
	return c.server.audience.Play(audience.Stored{
		Conn: c.tcp, From: blob, Title: plainText(l.stream.title), Metadata: l.metadata,
		Stall: c.server.cfg.WriteStall, Left: c.handOver(l),
	})
}

// listenLive hands a listener of a live recording over.
func (c *conn) listenLive(ctx context.Context, l *listening) error {
	gainDB, err := c.server.library.LiveGain(ctx, l.stream.account, l.stream.form)
	if err != nil {
		return err
	}
	place, err := c.server.relay.Join(ctx, l.stream.recording, library.From(l.from), gainDB)
	if err != nil {
		return err
	}
	if err := c.sendHead(l); err != nil {
		place.Leave()
		return err
	}
	return place.Listen(relay.Listener{Conn: c.tcp, Metadata: l.metadata, Left: c.handOver(l)})
}

// listenStation hands a listener of a continuous stream over to the audience.
func (c *conn) listenStation(ctx context.Context, l *listening) error {
	wait, cancel := context.WithTimeout(ctx, lookupWait)
	defer cancel()
	t, err := c.server.library.Tune(wait, l.stream.account, l.stream.id, l.stream.form)
	if err != nil {
		return err
	}
	l.left = append(l.left, t.Leave)
	if err := c.sendHead(l); err != nil {
		return err
	}
	return c.server.audience.Add(audience.Listener{
		Conn: c.tcp, Sound: t.Ring, Offset: t.Offset, ByteRate: t.ByteRate, BehindMax: c.server.cfg.BehindMax,
		Metadata: l.metadata, Left: c.handOver(l),
	})
}

// handOver lets go of the connection, whose goroutine ends here, and returns
// what is called when the listener has left.
func (c *conn) handOver(l *listening) func(bytes int64, why error) {
	remote, s := c.remote(), c.server
	c.handed = true
	c.release()
	c.giveBack()
	return func(bytes int64, why error) {
		for _, leave := range l.left {
			leave()
		}
		s.metrics.listenerBytes.Add(float64(bytes))
		s.metrics.connections.Dec()
		s.open.Add(-1)
		s.log.Debug("listener ended", "remote", remote, "target", l.target, "bytes", bytes,
			"duration", time.Since(l.began), "error", why)
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
		p = append(strconv.AppendInt(append(p, "icy-metaint: "...), audience.ICYInterval, 10), "\r\n"...)
	case !s.live():
		p = append(strconv.AppendInt(append(p, "Content-Length: "...), s.size, 10), "\r\n"...)
	}
	return append(p, "\r\n"...)
}
