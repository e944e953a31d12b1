package streamserver

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"carillon/blobstore"
	"carillon/internal/audience"
	"carillon/internal/outlet"
	"carillon/internal/web"
	"carillon/library"
)

const (
	// cacheMedia: mod_http_cache looks at nothing but max-age, asks not at all
	// within it (a day, if we said nothing) and never asks conditionally;
	// mod_httapi keeps 300 s, or less if told so (freeswitch-wire.md sections 4
	// and 5). A minute is what an operator waits after replacing a greeting;
	// it still spares a busy prompt 59 of 60 fetches. Others revalidate by ETag.
	cacheMedia = "max-age=60, must-revalidate"
	// cachePinned: the token pins the revision, so the bytes never change; a day
	// is mod_http_cache's own default. Private: the URL carries a token.
	cachePinned = "private, max-age=86400, immutable"
	// cacheEnded: an ended recording will be stored or discarded any moment.
	cacheEnded = "no-cache"
	// cacheLive: what is heard of a recording in progress is never whole.
	cacheLive = "no-store"

	// patience is how long a request waits for a client who takes nothing, before
	// he is handed to the audience: it has a goroutine meanwhile, with the stack
	// of a request, and what net/http keeps for one.
	patience = 50 * time.Millisecond
)

// player answers one request.
type player struct {
	c      echo.Context
	w      *echo.Response
	r      *http.Request
	server *Server
	start  time.Time
}

// item is a sound of known length.
type item struct {
	size        int64
	sha256      string
	contentType string
	modified    time.Time
	cache       string
	// rate, of headerless sound only: a range from that byte on is none, see
	// [player.wanted].
	rate int
	// converted: what is opened may itself read for no longer than it was opened for.
	converted bool
	open      func(ctx context.Context) (*blobstore.Reader, error)
}

// media answers /media/{account}/{id}.
func (s *Server) media(p *player) error {
	account, id, err := params(p.c, "account")
	if err != nil {
		return err
	}
	if err := p.mayPlay(account, id); err != nil {
		return err
	}
	query, consistency, err := p.query()
	if err != nil {
		return err
	}
	doc, err := s.library.Get(p.r.Context(), account, id, consistency)
	switch {
	case err == nil:
		return p.stored(&doc, "", query)
	case errors.Is(err, library.ErrNotFound):
		return p.other(account, id, query)
	}
	return err
}

// other plays what is no item under its own id: a recording under its media
// name, or either in the form that the extension asks for.
func (p *player) other(account, id string, query url.Values) error {
	m, ext, err := p.server.library.Playing(p.r.Context(), account, id)
	switch {
	case err != nil:
		return err
	case m.Recording != nil:
		return p.recording(*m.Recording, ext, query)
	case m.Doc != nil:
		return p.stored(m.Doc, ext, query)
	case m.Playlist != nil:
		form, err := library.ParseForm(ext, query.Get)
		if err != nil {
			return err
		}
		return p.station(m.Playlist.Account, m.Playlist.ID, ext, m.Playlist.Name, form)
	}
	return library.ErrNotFound
}

// stored plays an item: as a whole, or as a continuous stream.
func (p *player) stored(doc *library.Document, ext string, query url.Values) error {
	extant, err := p.extant()
	if err != nil {
		return err
	}
	if !extant {
		return p.document(doc, ext, query, cacheMedia)
	}
	form, err := library.ParseForm(ext, query.Get)
	if err != nil {
		return err
	}
	return p.station(doc.Account, doc.ID, ext, doc.Name, form)
}

// play answers /play/{token}/{id}.{ext}. The token is all the permission
// there needs to be.
func (s *Server) play(p *player) error {
	token, id, err := params(p.c, "token")
	if err != nil {
		return err
	}
	query, _, err := p.query()
	if err != nil {
		return err
	}
	account, stream, ok, err := s.library.OpenStream(p.r.Context(), token)
	if err != nil {
		return err
	}
	if ok {
		form, err := library.ParseForm("", query.Get)
		if err != nil {
			return err
		}
		return p.station(account, stream, "", "", form)
	}
	doc, err := s.library.OpenPlay(p.r.Context(), token)
	if err != nil {
		return err
	}
	ext := ""
	if id != doc.ID {
		var stem string
		stem, ext = library.CutFormExt(id)
		switch {
		case stem == doc.ID && ext != "", id == doc.ID+doc.Audio.Format.Ext():
		case ext != "" && stem == shortName: // the id is too long for a URL
		default:
			return library.ErrNotFound
		}
	}
	return p.document(&doc, ext, query, cachePinned)
}

// shortName stands for an id in URLs that would grow too long with it.
const shortName = "audio"

// params are the two decoded parts of a path.
func params(c echo.Context, name string) (first, rest string, err error) {
	if first, err = web.Param(c, name); err != nil {
		return "", "", err
	}
	rest, err = web.Param(c, "*")
	return first, rest, err
}

// query is nil for the usual request without one. Unknown parameters are not
// ours to refuse: FreeSWITCH dial plans add their own.
func (p *player) query() (url.Values, library.Consistency, error) {
	if p.r.URL.RawQuery == "" {
		return nil, library.Fresh, nil
	}
	q := p.r.URL.Query()
	switch c := library.Consistency(q.Get("consistency")); c {
	case "":
		return q, library.Fresh, nil
	case library.Local, library.Fresh, library.Linearizable:
		return q, c, nil
	}
	return nil, "", &web.Error{
		Status: http.StatusBadRequest, Code: library.FaultOf(library.ErrBadRequest).Code,
		Message: "consistency is local, fresh or linearizable",
	}
}

// document plays an item in the form that extension and query ask for.
func (p *player) document(doc *library.Document, ext string, query url.Values, cache string) error {
	form, err := library.ParseForm(ext, query.Get)
	if err != nil {
		return err
	}
	r, err := p.server.library.Render(p.r.Context(), doc, form)
	if err != nil {
		return err
	}
	return p.rendition(&r, doc.Modified, cache)
}

func (p *player) rendition(r *library.Rendition, modified time.Time, cache string) error {
	rate := 0
	if r.Form.Container.Headerless() {
		rate = r.Form.SampleRate
	}
	return p.item(&item{
		rate: rate, converted: r.Converted,
		size: r.Size, sha256: r.SHA256, contentType: r.ContentType, modified: modified, cache: cache,
		open: func(ctx context.Context) (*blobstore.Reader, error) {
			return p.server.library.OpenRendition(ctx, *r)
		},
	})
}

// item sends a sound of known length, or a part of it.
func (p *player) item(it *item) error {
	etag := `"` + it.sha256 + `"`
	modified := it.modified.Truncate(time.Second) // all that the header can say
	switch preconditions(p.r.Header, etag, modified) {
	case http.StatusNotModified:
		p.head(it, etag, modified, nil)
		p.w.WriteHeader(http.StatusNotModified)
		return nil
	case http.StatusPreconditionFailed:
		return library.ErrPrecondition
	}
	part, kind := p.wanted(it, etag, modified)
	switch kind {
	case rangeUnsatisfiable:
		p.w.Header().Set("Content-Range", "bytes */"+strconv.FormatInt(it.size, 10))
		p.w.Header().Set("Cache-Control", "no-store")
		p.w.Header().Set("Content-Length", "0")
		p.w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return nil
	case rangePart:
		return p.send(it, etag, modified, part, http.StatusPartialContent)
	case rangeWhole:
	}
	return p.send(it, etag, modified, part, http.StatusOK)
}

// wanted is the part of an item that is asked for. mod_shell_stream adds
// ` -r RATE -c 1` to its command, and if that is curl, it takes the rate for a
// range and asks for all from byte RATE on: the caller would miss the first half
// second. So that range of headerless sound is none.
func (p *player) wanted(it *item, etag string, modified time.Time) (span, rangeKind) {
	header := first(p.r.Header, "Range")
	if header == "" || !rangeApplies(p.r.Header, etag, modified) ||
		it.rate > 0 && header == "bytes="+strconv.Itoa(it.rate)+"-" {
		return span{0, it.size}, rangeWhole
	}
	return parseRange(header, it.size)
}

// send sends a part of an item. The status goes out with the first bytes, not
// before: what cannot be read is an error answer and not half a sound.
func (p *player) send(it *item, etag string, modified time.Time, part span, status int) error {
	out := &itemWriter{player: p, item: it, etag: etag, modified: modified, part: part, status: status}
	if p.r.Method == http.MethodHead {
		out.begin()
		return nil
	}
	rd, err := it.open(p.r.Context())
	if err != nil {
		return err
	}
	rest, err := out.pour(rd)
	if errors.Is(err, outlet.ErrNoRoom) {
		if err = p.handOver(it, rd, rest, out.brief); err == nil {
			return nil
		}
	}
	return errors.Join(err, rd.Close())
}

// handOver gives a listener who reads slowly to the audience, with what he has
// not got yet: he costs neither goroutine nor buffer while he waits. After that
// his connection ends.
func (p *player) handOver(it *item, rd *blobstore.Reader, rest span, from *web.Brief) error {
	p.w.Size -= from.Missing()
	s, open, again := p.server, it.open, it.converted // and not the request, as long as he listens
	return web.HandOver(p.r, func(tcp *net.TCPConn, closing func() error) {
		// It is read for as long as he listens, and not as long as the request.
		var err error
		if again {
			_ = rd.Close()
			rd, err = open(s.audience.Context())
		} else {
			err = rd.Outlive(s.audience.Context())
		}
		if err != nil {
			_ = closing() // half a sound, and all that can be said of it
			return
		}
		s.metrics.active.Inc()
		_ = s.audience.Play(audience.Stored{
			Conn: tcp, Close: closing, From: rd, Offset: rest.start, Full: true, Stall: s.stall,
			Until: func(int64) int64 { return rest.start + rest.length },
			Left: func(bytes int64, _ error) {
				s.metrics.active.Dec()
				s.metrics.bytes.Add(float64(bytes))
			},
		})
	})
}

// itemWriter sends the head of an item before its first byte.
type itemWriter struct {
	*player
	item     *item
	etag     string
	modified time.Time
	part     span
	status   int
	brief    *web.Brief // nil before the head
}

// Write sends p.
func (o *itemWriter) Write(p []byte) (int, error) {
	if o.brief != nil {
		return o.brief.Write(p)
	}
	o.begin()
	n, err := o.brief.Write(p)
	o.server.metrics.first.Observe(time.Since(o.start).Seconds())
	return n, err
}

// pour writes the part, and returns outlet.ErrNoRoom and what is left for a client
// who has taken nothing for the patience. No buffer is held while he is waited for.
func (o *itemWriter) pour(rd *blobstore.Reader) (rest span, err error) {
	for rest = o.part; ; {
		_, err = rd.WriteRange(o, rest.start, rest.length)
		if err == nil {
			o.begin() // of an empty item
		}
		if !errors.Is(err, outlet.ErrNoRoom) {
			return rest, err
		}
		taken := o.brief.Taken()
		rest = span{o.part.start + taken, o.part.length - taken}
		if ready, aerr := o.brief.Await(patience); !ready {
			return rest, cmp.Or(aerr, err)
		}
	}
}

func (o *itemWriter) begin() {
	if o.brief != nil {
		return
	}
	o.brief = web.NewBrief(o.w, o.r, o.part.length)
	if o.status == http.StatusPartialContent {
		o.w.Header()["Content-Range"] = []string{contentRange(o.part, o.item.size)}
	}
	o.head(o.item, o.etag, o.modified, &o.part)
	o.w.WriteHeader(o.status)
}

// head sets the headers of an item. The keys are canonical and the values
// share one array: this is the path of 10,000 requests a second.
func (p *player) head(it *item, etag string, modified time.Time, part *span) {
	h := p.w.Header()
	v := [...]string{etag, httpTime(modified), it.cache, "bytes", it.contentType, ""}
	h["Etag"] = v[0:1:1]
	h["Last-Modified"] = v[1:2:2]
	h["Cache-Control"] = v[2:3:3]
	h["Accept-Ranges"] = v[3:4:4]
	if part == nil { // 304 has no body to describe
		return
	}
	h["Content-Type"] = v[4:5:5]
	v[5] = strconv.FormatInt(part.length, 10)
	h["Content-Length"] = v[5:6:6]
}

// httpTime is t in the form of RFC 9110, which is the same text on every node.
func httpTime(t time.Time) string {
	var b [len(http.TimeFormat)]byte
	return string(t.UTC().AppendFormat(b[:0], http.TimeFormat))
}
