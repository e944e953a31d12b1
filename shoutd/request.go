package shoutd

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"unicode"

	"carillon/library"
)

// Limits of a request head. Icecast's own history shows what they are for:
// too many headers (CVE-2004-1561), a long Basic header (CVE-2004-2027).
const (
	// headerLinesMax: libshout sends 12, browsers about 20.
	headerLinesMax = 128
	// headBytesMax bounds the head as a whole.
	headBytesMax = 32 << 10
	// emptyLinesMax before a request line; RFC 9112 2.2 asks to skip one.
	emptyLinesMax = 4
	// icyHeadersMax bounds the ice-* and icy-* headers that are kept; clients
	// send about 10.
	icyHeadersMax = 24
	// icyNameBytesMax bounds the name of one.
	icyNameBytesMax = 64
)

// headError is a request head that is answered with status and not served.
type headError struct {
	status int
	why    string
}

func (e *headError) Error() string { return e.why }

// request is a parsed head.
type request struct {
	method string
	target string // as sent
	http11 bool

	contentType string
	length      int64 // -1 without Content-Length
	chunked     bool
	expect      bool // 100-continue
	closing     bool // Connection: close
	icyMetadata bool
	userAgent   string

	authorized     bool // there is an Authorization header
	basic          bool // that is well formed Basic
	user, password string

	icy map[string]string
}

// readRequest reads one head. It returns a *headError for what is answered
// with an error, io.EOF when the client left before the first byte, and other
// errors as they come from the connection.
func readRequest(in *input) (*request, error) {
	line, err := in.requestLine()
	if err != nil {
		return nil, headFault(err, in.buffered() > 0, http.StatusRequestURITooLong)
	}
	r := &request{length: -1}
	if err := r.parseRequestLine(line); err != nil {
		return nil, err
	}
	total := len(line)
	for range headerLinesMax {
		line, err := in.line()
		if err != nil {
			return nil, headFault(err, true, http.StatusRequestHeaderFieldsTooLarge)
		}
		if len(line) == 0 {
			return r, nil
		}
		if total += len(line); total > headBytesMax {
			break
		}
		if err := r.parseHeader(line); err != nil {
			return nil, err
		}
	}
	return nil, &headError{http.StatusRequestHeaderFieldsTooLarge, "head too large"}
}

// headFault gives a read error within a head its status, unless nothing of the
// head has come and there is nobody to tell.
func headFault(err error, begun bool, tooLong int) error {
	switch {
	case errors.Is(err, errLineTooLong):
		return &headError{tooLong, err.Error()}
	case errors.Is(err, errBinary):
		return &headError{http.StatusBadRequest, err.Error()}
	case begun && errors.Is(err, os.ErrDeadlineExceeded):
		return &headError{http.StatusRequestTimeout, "head took too long"}
	case errors.Is(err, io.ErrUnexpectedEOF), begun && errors.Is(err, io.EOF):
		return &headError{http.StatusBadRequest, "head ended early"}
	}
	return err
}

// parseRequestLine takes `METHOD target VERSION`. ICE/1.0 is what ices of the
// 1990s said; a SOURCE is answered as HTTP/1.0 in any case.
func (r *request) parseRequestLine(line []byte) error {
	first := bytes.IndexByte(line, ' ')
	last := bytes.LastIndexByte(line, ' ')
	if first <= 0 || last <= first {
		return &headError{http.StatusBadRequest, "malformed request line"}
	}
	version := string(line[last+1:])
	switch version {
	case "HTTP/1.1":
		r.http11 = true
	case "HTTP/1.0", "ICE/1.0":
	default:
		return &headError{http.StatusBadRequest, "unknown protocol version"}
	}
	r.method = string(line[:first])
	r.target = string(bytes.TrimSpace(line[first+1 : last]))
	if r.target == "" {
		return &headError{http.StatusBadRequest, "no target"}
	}
	return nil
}

// parseHeader takes one header line. Odd lines (without a colon, folded, with
// an empty value, repeated) are passed over, as Icecast does; only a length
// that cannot be believed is refused. Of a repeated header the first counts.
func (r *request) parseHeader(line []byte) error {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 || line[0] == ' ' || line[0] == '\t' {
		return nil
	}
	name := strings.ToLower(string(bytes.TrimSpace(line[:colon])))
	value := string(bytes.TrimSpace(line[colon+1:]))
	if value == "" {
		return nil
	}
	switch name {
	case "content-length":
		return r.parseLength(value)
	case "transfer-encoding":
		return r.parseTransferEncoding(value)
	case "authorization":
		r.parseAuthorization(value)
	case "content-type":
		first(&r.contentType, plainText(value))
	case "expect":
		mark(&r.expect, strings.EqualFold(value, "100-continue"))
	case "connection":
		mark(&r.closing, strings.EqualFold(value, "close"))
	case "icy-metadata":
		r.icyMetadata = value == "1"
	case "user-agent":
		first(&r.userAgent, value)
	default:
		r.keepICY(name, value)
	}
	return nil
}

func first(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

func mark(flag *bool, on bool) { *flag = *flag || on }

func (r *request) parseLength(value string) error {
	for _, c := range []byte(value) {
		if c < '0' || c > '9' {
			return &headError{http.StatusBadRequest, "bad content length"}
		}
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return &headError{http.StatusRequestEntityTooLarge, "content length out of range"}
	}
	if r.length >= 0 && r.length != n {
		return &headError{http.StatusBadRequest, "content lengths differ"}
	}
	r.length = n
	return nil
}

func (r *request) parseTransferEncoding(value string) error {
	switch {
	case strings.EqualFold(value, "chunked"):
		r.chunked = true
	case strings.EqualFold(value, "identity"):
	default:
		return &headError{http.StatusNotImplemented, "unknown transfer encoding"}
	}
	return nil
}

// parseAuthorization understands Basic. Everything up to the first colon is
// the user; both halves may be empty (`foo:@host` in a shout URL).
func (r *request) parseAuthorization(value string) {
	if r.authorized {
		return
	}
	r.authorized = true
	scheme, rest, _ := strings.Cut(value, " ")
	if !strings.EqualFold(scheme, "basic") {
		return
	}
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(rest), "="))
	if err != nil {
		return
	}
	r.basic = true
	r.user, r.password, _ = strings.Cut(string(raw), ":")
}

func (r *request) keepICY(name, value string) {
	if !strings.HasPrefix(name, "ice-") && !strings.HasPrefix(name, "icy-") {
		return
	}
	if _, known := r.icy[name]; known || len(r.icy) >= icyHeadersMax || len(name) > icyNameBytesMax {
		return
	}
	if r.icy == nil {
		r.icy = make(map[string]string)
	}
	r.icy[plainText(name)] = plainText(value)
}

// path is the decoded path of the target without its leading slash, and the
// query. It is decoded exactly once: FreeSWITCH sends %2520 for a `%20` in its
// URL, and means `%20`.
func (r *request) path() (string, url.Values, error) {
	target := r.target
	if i := strings.Index(target, "://"); i > 0 && !strings.Contains(target[:i], "/") {
		_, rest, _ := strings.Cut(target[i+3:], "/")
		target = "/" + rest
	}
	raw, query, _ := strings.Cut(target, "?")
	path, err := url.PathUnescape(raw)
	if err != nil {
		return "", nil, &headError{http.StatusBadRequest, "bad escape in target"}
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		values = url.Values{} // mod_shout passes any query through; ours are optional
	}
	return strings.TrimPrefix(path, "/"), values, nil
}

// plainText makes a header value fit for a document and a log: valid UTF-8
// without control characters, of bounded length.
func plainText(s string) string {
	if len(s) > library.TextBytesMax {
		s = s[:library.TextBytesMax]
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}

// shownBytesMax bounds what a client's text may take in a log line.
const shownBytesMax = 200

// shown is a client's text for a log: every character that is not plain is
// escaped, whatever the log handler does (CVE-2011-4612).
func shown(s string) string {
	if len(s) > shownBytesMax {
		s = s[:shownBytesMax] + "..."
	}
	q := strconv.QuoteToASCII(s)
	return q[1 : len(q)-1]
}

// shownTarget is a request's target for a log: its query may hold a token or a
// password.
func shownTarget(target string) string {
	path, _, _ := strings.Cut(target, "?")
	return shown(path)
}
