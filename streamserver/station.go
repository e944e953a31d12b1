package streamserver

import (
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"carillon/audio"
	"carillon/internal/audience"
	"carillon/internal/web"
	"carillon/library"
)

const (
	// liveBufferBytes is the kernel's buffer of a listener of what goes on: what
	// lies there is not counted as being behind. The kernel doubles it.
	liveBufferBytes = 16 << 10
	// headWait bounds the write of an answer's head, which every socket buffer
	// takes at once.
	headWait = 10 * time.Second
)

// errFull is returned when there are as many listeners as there may be.
var errFull error = &web.Error{
	Status: http.StatusServiceUnavailable, Code: library.FaultOf(library.ErrLimit).Code,
	Message: "too many listeners",
}

// station plays the continuous stream of an item or a playlist: MP3 without an
// end. The connection is taken over from net/http and handed to the audience,
// so that a listener costs neither goroutine nor buffer.
func (p *player) station(account, id, ext, title string, form library.Form) error {
	if ext != "" && ext != audio.FormatMP3.Ext() || form.Channels > 1 {
		// Who asks for another form waits for an end that does not come.
		rec := library.Recording{Account: account, Name: id}
		p.w.Header().Set("Link", "<"+p.server.library.ListenURL(rec)+`>; rel="alternate"; type="audio/mpeg"`)
		return library.ErrLiveForm
	}
	if p.r.Method == http.MethodHead {
		h := p.w.Header()
		h.Set("Content-Type", audio.FormatMP3.ContentType())
		h.Set("Cache-Control", cacheLive)
		p.w.WriteHeader(http.StatusOK)
		return nil
	}
	leave, err := p.server.audience.Admit(account + "/" + id)
	if err != nil {
		return errFull
	}
	tuned, err := p.server.library.Tune(p.r.Context(), account, id, form)
	if err != nil {
		leave()
		return err
	}
	if title == "" {
		title = id
	}
	server := p.server
	err = p.takeSeat(audio.FormatMP3.ContentType(), title, func(s *seat) {
		if s == nil {
			tuned.Leave()
			leave()
			return
		}
		_ = server.audience.Add(audience.Listener{
			Conn: s.conn, Close: s.closing, Sound: tuned.Ring, Offset: tuned.Offset, ByteRate: tuned.ByteRate,
			BehindMax: server.behindMax, Metadata: s.metadata, Chunked: s.chunked,
			Left: func(bytes int64, _ error) {
				tuned.Leave()
				leave()
				server.metrics.bytes.Add(float64(bytes))
			},
		})
	})
	if err != nil {
		tuned.Leave()
		leave()
	}
	return err
}

// seat is a connection that was taken over from net/http, with its answer's head
// sent. From there on it is the audience's, which closes it if it cannot have it.
type seat struct {
	conn              *net.TCPConn
	closing           func() error
	metadata, chunked bool
}

// takeSeat takes the connection of a listener of what goes on, and answers him
// when the handler has returned. Then it calls next, with nil if nobody is there
// any more to be told. It does not when it returns an error.
func (p *player) takeSeat(contentType, title string, next func(*seat)) error {
	s := &seat{metadata: p.r.Header.Get("Icy-Metadata") == "1", chunked: p.r.ProtoAtLeast(1, 1)}
	head, first, start := p.seatHead(s, contentType, title), p.server.metrics.first, p.start
	return web.HandOver(p.r, func(tcp *net.TCPConn, closing func() error) {
		s.conn, s.closing = tcp, closing
		_ = tcp.SetWriteBuffer(liveBufferBytes)
		_ = tcp.SetWriteDeadline(time.Now().Add(headWait))
		if _, err := tcp.Write(head); err != nil {
			_ = closing()
			next(nil)
			return
		}
		first.Observe(time.Since(start).Seconds())
		next(s)
	})
}

// seatHead is the head of the answer. It is written by hand, since net/http
// has nothing more to do with the connection.
func (p *player) seatHead(s *seat, contentType, title string) []byte {
	var b strings.Builder
	b.WriteString("HTTP/1.1 200 OK\r\nContent-Type: " + headerText(contentType) +
		"\r\nCache-Control: " + cacheLive + "\r\nConnection: close" +
		"\r\nAccept-Ranges: none\r\nDate: " + httpTime(time.Now()) + "\r\n")
	if id := p.w.Header().Get("X-Request-Id"); id != "" {
		b.WriteString("X-Request-Id: " + id + "\r\n")
	}
	if s.metadata {
		b.WriteString("icy-name: " + headerText(title) + "\r\n" +
			"icy-metaint: " + strconv.Itoa(audience.ICYInterval) + "\r\n")
	}
	if s.chunked {
		b.WriteString("Transfer-Encoding: chunked\r\n")
	}
	b.WriteString("\r\n")
	return []byte(b.String())
}

// headerText is a title without what would end a header.
func headerText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}

// extant says whether the query asks for the continuous stream.
func (p *player) extant() (bool, error) {
	if p.r.URL.RawQuery == "" {
		return false, nil
	}
	return library.Extant(p.r.URL.Query().Get("stream"))
}

// mayPlay checks who wants to hear {account}/{id}: an API token may anything,
// the library says what else is needed. The address is the peer's own:
// X-Forwarded-For can be written by anyone.
func (p *player) mayPlay(account, id string) error {
	if p.server.tokens.Allow(p.r) {
		return nil
	}
	w := library.Listening{Account: account, ID: id}
	if ap, err := netip.ParseAddrPort(p.r.RemoteAddr); err == nil {
		w.Network = p.server.allow(ap.Addr().Unmap().WithZone(""))
	}
	w.User, w.Password, w.Basic = p.r.BasicAuth()
	if p.r.URL.RawQuery != "" {
		w.Token = p.r.URL.Query().Get("token")
	}
	return p.server.library.MayListen(p.r.Context(), w)
}
