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

// metadata accepts `/admin/metadata?mode=updinfo&mount=…&song=…` from a live
// source, because encoders send it and some stop when it is refused. The song
// is not used: a recording's title is its document's.
func (c *conn) metadata(r *request, query url.Values) {
	mount := strings.TrimPrefix(query.Get("mount"), "/")
	if !r.basic || !c.server.sourceOn(mount, credentialOf(r)) {
		c.refuse(r, http.StatusUnauthorized)
		return
	}
	if query.Get("mode") != "updinfo" {
		c.refuse(r, http.StatusBadRequest)
		return
	}
	p := statusLine(nil, r.http11, http.StatusOK)
	p = fmt.Appendf(p, "Content-Type: text/xml\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", len(updated))
	if r.method == methodGet {
		p = append(p, updated...)
	}
	if c.send(p) == nil {
		c.linger()
	}
}
