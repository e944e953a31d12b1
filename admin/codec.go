package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"carillon/internal/web"
	"carillon/library"
	"carillon/library/field"
)

// listOf is how one page of a list is answered; Next is the after of the
// following one.
type listOf[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}

// bodyBytesMax of a JSON request: the largest is a patch with full metadata,
// of which escaping may make six bytes of one.
const bodyBytesMax = 64 << 10

// readJSON decodes the request's body into v. It is strict: a misspelt field
// is an error that names it, not a setting that silently did nothing.
func readJSON(c echo.Context, v any) error {
	b, err := readBody(c)
	if err != nil {
		return err
	}
	return decodeJSON(b, v)
}

// readBody reads the body of a JSON request.
func readBody(c echo.Context) ([]byte, error) {
	r := c.Request()
	if ct := r.Header.Get("Content-Type"); ct != "" {
		if t, _, err := mime.ParseMediaType(ct); err != nil || t != "application/json" {
			return nil, fmt.Errorf("content-type must be application/json: %w", library.ErrUnsupportedMedia)
		}
	}
	if r.ContentLength > bodyBytesMax {
		return nil, fmt.Errorf("body of more than %d bytes: %w", bodyBytesMax, library.ErrTooLarge)
	}
	body := web.NewBody(c.Response(), r)
	b, err := io.ReadAll(io.LimitReader(body, bodyBytesMax+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > bodyBytesMax:
		return nil, fmt.Errorf("body of more than %d bytes: %w", bodyBytesMax, library.ErrTooLarge)
	}
	return b, nil
}

func decodeJSON(b []byte, v any) error {
	if !utf8.Valid(b) { // encoding/json would replace what is wrong
		return fmt.Errorf("body is not UTF-8: %w", library.ErrBadRequest)
	}
	if !bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("{")) {
		return fmt.Errorf("body must be a JSON object: %w", library.ErrBadRequest)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return jsonError(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("more than one JSON value in the body: %w", library.ErrBadRequest)
	}
	return nil
}

// jsonError says what encoding/json found without Go's own words: which field
// is at fault, or where the text is no JSON.
func jsonError(err error) error {
	text := strings.TrimPrefix(err.Error(), "json: ")
	if typed, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && typed.Field != "" {
		message := "cannot be of type " + typed.Value
		if kind, value, found := strings.Cut(typed.Value, " "); found { // "number 1e99"
			message = fmt.Sprintf("cannot be the %s %.40s", kind, value)
		}
		return field.Errors{typed.Field: {Code: field.Invalid, Message: message}}
	}
	// There is no type for this one.
	if name, found := strings.CutPrefix(text, "unknown field "); found {
		if unknown, err := strconv.Unquote(name); err == nil {
			return field.Errors{unknown: {Code: field.Unknown, Message: "is no field of this request"}}
		}
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		text = fmt.Sprintf("bad JSON at byte %d", syntax.Offset)
	} else if at, ok := errors.AsType[*time.ParseError](err); ok {
		text = fmt.Sprintf("%.40s is no time like \"2006-01-02T15:04:05Z\"", at.Value)
	} else if errors.Is(err, io.ErrUnexpectedEOF) {
		text = "bad JSON: it ends too early"
	}
	return fmt.Errorf("%s: %w", text, library.ErrBadRequest)
}

// sendJSON answers with v.
func sendJSON(c echo.Context, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	h := c.Response().Header()
	h.Set("Cache-Control", "no-store") // an answer may hold a ticket
	b = append(b, '\n')
	h.Set("Content-Length", strconv.Itoa(len(b))) // net/http would send a longer one in chunks
	return c.JSONBlob(status, b)
}

// query is the checked query of a request.
type query struct {
	values url.Values
}

// newQuery refuses parameters that the route does not know, by name, and
// those given twice.
func newQuery(r *http.Request, known ...string) (query, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return query{}, fmt.Errorf("query: bad escape: %w", library.ErrBadRequest)
	}
	for name, v := range values {
		switch {
		case !slices.Contains(known, name):
			return query{}, fmt.Errorf("unknown parameter %.40q: %w", name, library.ErrBadRequest)
		case len(v) > 1:
			return query{}, fmt.Errorf("parameter %s is given %d times: %w", name, len(v), library.ErrBadRequest)
		case !utf8.ValidString(v[0]):
			return query{}, fmt.Errorf("parameter %s is not UTF-8: %w", name, library.ErrBadRequest)
		}
	}
	return query{values}, nil
}

func (q query) get(name string) string { return q.values.Get(name) }

// limit is the page size, 0 for the default.
func (q query) limit() (int, error) {
	v := q.get("limit")
	if v == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > library.PageLimitMax {
		return 0, fmt.Errorf("limit must be 1 to %d: %w", library.PageLimitMax, library.ErrBadRequest)
	}
	return n, nil
}

// newPutQuery is the query of a request with sound: it refuses what it knows if
// that is given twice or badly escaped. What it does not know is not ours to
// refuse, not even if it is no query at all: mod_httapi adds session_id,
// put_file, hostname and more to its PUT (freeswitch-wire.md section 5).
func newPutQuery(r *http.Request, known ...string) (query, error) {
	values := url.Values{}
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil || !slices.Contains(known, name) {
			continue
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return query{}, field.Errors{name: {Code: field.Invalid, Message: "has a bad escape"}}
		}
		if values.Has(name) {
			return query{}, field.Errors{name: {Code: field.Invalid, Message: "is given twice"}}
		}
		values.Set(name, value)
	}
	return query{values}, nil
}

func (q query) consistency() (library.Consistency, error) {
	return consistencyOf(library.Consistency(q.get("consistency")))
}

func consistencyOf(c library.Consistency) (library.Consistency, error) {
	switch c {
	case "":
		return library.Fresh, nil
	case library.Local, library.Fresh, library.Linearizable:
		return c, nil
	}
	return "", fmt.Errorf("consistency must be local, fresh or linearizable: %w", library.ErrBadRequest)
}
