package shoutd

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// updated is the answer of Icecast's /admin/metadata that its clients look for.
const updated = `<?xml version="1.0"?>` + "\n" +
	"<iceresponse><message>Metadata update successful</message><return>1</return></iceresponse>\n"

// metadata takes `/admin/metadata?mode=updinfo&mount=…&song=…` of Icecast and
// `/admin.cgi?pass=…&mode=updinfo&song=…` of SHOUTcast from who has the
// credentials of a live source of this node: its title for those who listen.
func (c *conn) metadata(r *request, query url.Values) {
	src := c.titled(r, query)
	if src == nil {
		c.refuse(r, http.StatusUnauthorized)
		return
	}
	if query.Get("mode") != "updinfo" {
		c.refuse(r, http.StatusBadRequest)
		return
	}
	title := titleOf(query.Get("song"), query.Get("artist"), query.Get("title"), query.Get("charset"))
	src.session.SetTitle(title, nil)
	p := statusLine(nil, r.http11, http.StatusOK)
	p = fmt.Appendf(p, "Content-Type: text/xml\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", len(updated))
	if r.method == methodGet {
		p = append(p, updated...)
	}
	if c.send(p) == nil {
		c.linger()
	}
}

// titled is the source that an update is for, or nil. SHOUTcast's names no
// mount, and its password is the whole line of the source, or, of liquidsoap,
// only what follows the user there. If that leads to several, to none.
func (c *conn) titled(r *request, query url.Values) *source {
	mount := strings.TrimPrefix(query.Get("mount"), "/")
	switch pass := query.Get("pass"); {
	case r.basic && mount != "":
		secret := credentialOf(r)
		return c.server.liveSource(mount, func(s *source) bool { return s.credential.equal(secret) })
	case !r.basic && pass != "":
		secret := secretOf(pass)
		if s := c.server.liveSource(mount, func(s *source) bool { return s.credential.equal(secret) }); s != nil {
			return s
		}
		return c.server.liveSource(mount, func(s *source) bool { return s.password.equal(secret) })
	}
	return nil
}
