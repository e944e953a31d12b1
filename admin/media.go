package admin

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"carillon/internal/web"
	"carillon/library"
	"carillon/library/field"
	"carillon/library/naming"
)

// metaPrefix of headers that carry free metadata. Header names know no case,
// so the keys are lower case.
const metaPrefix = "X-Carillon-Meta-"

// itemOf returns the checked name that a request's path gives.
func itemOf(c echo.Context) (account, id string, err error) {
	if account, err = accountOf(c); err != nil {
		return "", "", err
	}
	if id, err = web.Param(c, "*"); err != nil {
		return "", "", err
	}
	return account, id, naming.CheckID(id)
}

func accountOf(c echo.Context) (string, error) {
	account, err := web.Param(c, "account")
	if err != nil {
		return "", err
	}
	return account, naming.CheckAccount(account)
}

// putMedia stores the sound in the body, of a PUT or a POST. Everything that can
// be refused is refused before the first read: until then a client that sent
// `Expect: 100-continue` has not sent its body.
func (s *Server) putMedia(c echo.Context) error {
	r := c.Request()
	if err := s.checkIngest(r, c.Param("account")); err != nil {
		return err
	}
	account, id, err := itemOf(c)
	if err != nil {
		return err
	}
	body, err := soundOf(c.Response(), r, s.cfg.UploadBytesMax)
	if err != nil {
		return err
	}
	opts, err := putOptions(r, body)
	if err != nil {
		return err
	}
	doc, created, err := s.deps.Library.Put(r.Context(), account, id, body, opts)
	s.metrics.received.Add(float64(body.request.Size()))
	if err != nil {
		if body.request.Stalled() {
			return web.ErrBodyStalled
		}
		return err
	}
	c.Response().Header().Set("ETag", doc.ETag())
	if doc.SpoolID != "" {
		doc.StatusURL = s.cfg.HTTPURL + spoolPath(doc.SpoolID)
		c.Response().Header().Set("Location", spoolPath(doc.SpoolID))
		return sendJSON(c, http.StatusAccepted, doc)
	}
	if created {
		c.Response().Header().Set("Location", mediaPath(account, id))
		return sendJSON(c, http.StatusCreated, doc)
	}
	return sendJSON(c, http.StatusOK, doc)
}

func putOptions(r *http.Request, body *soundBody) (library.PutOptions, error) {
	meta, err := metadataOf(r.Header)
	if err != nil {
		return library.PutOptions{}, err
	}
	q, err := newPutQuery(r, strings.Fields(putQuery)...)
	if err != nil {
		return library.PutOptions{}, err
	}
	opts := library.PutOptions{
		ContentType: body.contentType,
		Length:      body.length,
		IfMatch:     strings.Join(r.Header.Values("If-Match"), ", "),
		IfNoneMatch: strings.Join(r.Header.Values("If-None-Match"), ", "),
		Name:        q.get("name"),
		Description: q.get("description"),
		Language:    q.get("language"),
		Prompt:      q.get("prompt_id"),
		Source:      q.get("media_source"),
		SourceID:    q.get("source_id"),
		SourceType:  q.get("source_type"),
		Class:       library.Class(q.get("class")),
		Metadata:    meta,
	}
	if q.values.Has("tts_text") || q.values.Has("tts_voice") {
		opts.TTS = &library.TTS{Text: q.get("tts_text"), Voice: q.get("tts_voice")}
	}
	opts.Streamable, err = boolOf(q.values, "streamable")
	return opts, err
}

// boolOf is an optional parameter that is true or false.
func boolOf(q url.Values, name string) (*bool, error) {
	switch q.Get(name) {
	case "":
		return nil, nil //nolint:nilnil // not given is an answer here
	case "true":
		return new(true), nil
	case "false":
		return new(false), nil
	}
	return nil, field.Errors{name: {Code: field.Invalid, Message: "must be true or false"}}
}

// checkBodyForm refuses bodies that are not the bytes themselves, all of them.
func checkBodyForm(r *http.Request) error {
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return fmt.Errorf("content-encoding %.40q: %w", e, library.ErrUnsupportedMedia)
	}
	if r.Header.Get("Content-Range") != "" { // RFC 9110 section 14.5: must not be taken for the whole
		return fmt.Errorf("content-range in a put: %w", library.ErrBadRequest)
	}
	return nil
}

// metadataOf collects the metadata headers, within the library's limits. A
// value is UTF-8, or percent-encoded by clients that can send ASCII only.
func metadataOf(h http.Header) (map[string]string, error) {
	var meta map[string]string
	size := 0
	for name, values := range h {
		key, ok := strings.CutPrefix(name, metaPrefix)
		if !ok || key == "" {
			continue
		}
		value, err := url.PathUnescape(values[0])
		if err != nil || len(values) > 1 || !utf8.ValidString(value) {
			return nil, fmt.Errorf("header %.80s must be one percent-encoded value: %w", name, library.ErrBadRequest)
		}
		size += len(key) + len(value)
		if meta == nil {
			meta = make(map[string]string)
		}
		meta[strings.ToLower(key)] = value
	}
	if len(meta) > library.MetadataEntriesMax || size > library.MetadataBytesMax {
		return nil, fmt.Errorf("%d metadata headers of %d bytes, at most %d and %d: %w", len(meta), size,
			library.MetadataEntriesMax, library.MetadataBytesMax, library.ErrBadRequest)
	}
	return meta, nil
}

// mediaPath is where an item is played.
func mediaPath(account, id string) string {
	u := url.URL{Path: "/media/" + account + "/" + id}
	return u.EscapedPath()
}

func (s *Server) deleteMedia(c echo.Context) error {
	account, id, err := itemOf(c)
	if err != nil {
		return err
	}
	q, err := newQuery(c.Request(), "hard")
	if err != nil {
		return err
	}
	hard, err := boolOf(q.values, "hard")
	if err != nil {
		return err
	}
	remove := s.deps.Library.Delete
	if hard != nil && *hard {
		remove = s.deps.Library.Purge
	}
	if err := remove(c.Request().Context(), account, id, ifMatchOf(c)); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func (s *Server) listMedia(c echo.Context) error {
	account, err := accountOf(c)
	if err != nil {
		return err
	}
	q, err := newQuery(c.Request(), "prefix", "after", "limit", "language", "prompt", "name", "class",
		"deleted")
	if err != nil {
		return err
	}
	limit, err := q.limit()
	if err != nil {
		return err
	}
	deleted, err := boolOf(q.values, "deleted")
	if err != nil {
		return err
	}
	page, err := s.deps.Library.List(c.Request().Context(), account, library.ListQuery{
		Prefix: q.get("prefix"), After: q.get("after"), Language: q.get("language"), Prompt: q.get("prompt"),
		Name: q.get("name"), Class: library.Class(q.get("class")), Deleted: deleted != nil && *deleted,
		Limit: limit,
	})
	if err != nil {
		return err
	}
	if page.Items == nil {
		page.Items = []library.Document{} // `[]`, not `null`
	}
	return sendJSON(c, http.StatusOK, page)
}

func (s *Server) getDocument(c echo.Context) error {
	account, id, err := itemOf(c)
	if err != nil {
		return err
	}
	q, err := newQuery(c.Request(), "consistency")
	if err != nil {
		return err
	}
	consistency, err := q.consistency()
	if err != nil {
		return err
	}
	doc, err := s.deps.Library.Get(c.Request().Context(), account, id, consistency)
	if err != nil {
		return err
	}
	return sendDocument(c, doc)
}

// sendDocument answers with what is known of an item, whose validator is its
// revision and not its sound's.
func sendDocument(c echo.Context, doc library.Document) error {
	c.Response().Header().Set("ETag", doc.RevisionTag())
	return sendJSON(c, http.StatusOK, doc)
}

func (s *Server) patchDocument(c echo.Context) error {
	account, id, err := itemOf(c)
	if err != nil {
		return err
	}
	var patch library.Patch
	if err := readJSON(c, &patch); err != nil {
		return err
	}
	patch.IfMatch = ifMatchOf(c)
	doc, err := s.deps.Library.Update(c.Request().Context(), account, id, patch)
	if err != nil {
		return err
	}
	return sendDocument(c, doc)
}
