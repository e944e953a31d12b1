package admin

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"

	"carillon/internal/web"
	"carillon/library"
	"carillon/library/export"
	"carillon/library/naming"
)

// recordingLibrary is the part of the library that records.
type recordingLibrary interface {
	CreateRecording(ctx context.Context, r library.RecordingRequest) (library.Recording, error)
	Recording(ctx context.Context, id string) (library.Recording, error)
	ListRecordings(ctx context.Context, account, after string, limit int) ([]library.Recording, string, error)
	StoreRecording(ctx context.Context, recordingID string, r library.StoreRequest) (library.Document, error)
	DiscardRecording(ctx context.Context, recordingID string) error
	RecordURL(r library.Recording) string
	SourceAccount(user, password string) (account string, ok bool)
	Rerecord(ctx context.Context, recordingID string) (library.Recording, error)
	IngestRecording(
		ctx context.Context, r library.IngestRequest, body io.Reader,
	) (library.Recording, bool, error)
}

func (s *Server) recordingRoutes(e *echo.Echo) {
	e.POST("/v1/recordings", s.guarded("create_recording", s.createRecording))
	e.GET("/v1/recordings", s.guarded("list_recordings", s.listRecordings))
	e.GET("/v1/recordings/:id", s.guarded("get_recording", s.getRecording))
	e.POST("/v1/recordings/:id/store", s.guarded("store_recording", s.storeRecording))
	e.POST("/v1/recordings/:id/rerecord", s.guarded("rerecord", s.rerecord))
	// Its own credentials open these: the check is the handler's.
	for _, method := range []string{http.MethodPut, http.MethodPost} {
		e.Add(method, "/v1/recordings/:id/audio", s.guardedBy("put_audio", anybody, s.putAudio))
		e.Add(method, "/v1/recordings/:id/audio/*", s.guardedBy("put_audio", anybody, s.putAudio))
	}
	e.POST("/v1/recordings/:id/discard", s.guarded("discard_recording", s.discardRecording))
}

// recordingView is the public form of a recording.
type recordingView struct {
	library.Recording
	// RecordURL holds the ticket's secret; it is only in the answer to the POST
	// that made the ticket.
	RecordURL string `json:"record_url,omitempty"`
	// RecordURLHTTP holds it as well: where a switch that records to its own
	// disk may PUT the file.
	RecordURLHTTP string   `json:"record_url_http,omitempty"`
	PlayURLs      playURLs `json:"play_urls"`
}

// playURLs are where a recording is heard, from its start and from now, also
// while it is made.
type playURLs struct {
	HTTP     string `json:"http"`
	HTTPNow  string `json:"http_now"`
	Shout    string `json:"shout"`
	ShoutNow string `json:"shout_now"`
}

func (s *Server) view(rec library.Recording) recordingView {
	path := url.URL{Path: "/" + rec.Account + "/" + rec.Name}
	escaped := path.EscapedPath()
	play := playURLs{
		HTTP:  s.cfg.HTTPURL + "/media" + escaped,
		Shout: "shout://" + s.cfg.ShoutHost + escaped,
	}
	play.HTTPNow = play.HTTP + "?from=now"
	play.ShoutNow = play.Shout + "?from=now"
	return recordingView{Recording: rec, PlayURLs: play}
}

// createRecording makes a ticket. It is the only answer with its secret.
func (s *Server) createRecording(c echo.Context) error {
	var req library.RecordingRequest
	if err := readJSON(c, &req); err != nil {
		return err
	}
	if err := naming.CheckAccount(req.Account); err != nil {
		return err
	}
	rec, err := s.deps.Library.CreateRecording(c.Request().Context(), req)
	if err != nil {
		return err
	}
	return s.sendTicket(c, rec)
}

// rerecord makes a fresh ticket in place of a recording.
func (s *Server) rerecord(c echo.Context) error {
	id, err := web.Param(c, "id")
	if err != nil {
		return err
	}
	rec, err := s.deps.Library.Rerecord(c.Request().Context(), id)
	if err != nil {
		return err
	}
	return s.sendTicket(c, rec)
}

func (s *Server) sendTicket(c echo.Context, rec library.Recording) error {
	v := s.view(rec)
	v.RecordURL = s.deps.Library.RecordURL(rec)
	if scheme, rest, ok := strings.Cut(s.cfg.HTTPURL, "://"); ok {
		name := url.URL{Path: "/" + rec.Name}
		v.RecordURLHTTP = scheme + "://" + rec.ID + ":" + rec.Token + "@" + rest +
			"/v1/recordings/" + rec.ID + "/audio" + name.EscapedPath()
	}
	c.Response().Header().Set("Location", "/v1/recordings/"+url.PathEscape(rec.ID))
	return sendJSON(c, http.StatusCreated, v)
}

// putAudio takes a recording as a file. Who may: a client with an API token, one
// from the networks that may ingest, and one with the ticket as its password.
func (s *Server) putAudio(c echo.Context) error {
	id, err := web.Param(c, "id")
	if err != nil {
		return err
	}
	r := c.Request()
	body, err := soundOf(c.Response(), r, 0)
	if err != nil {
		return err
	}
	ingest := library.IngestRequest{
		RecordingID: id, Trusted: s.mayIngest(r), ContentType: body.contentType, Length: body.length,
		RemoteAddr: r.RemoteAddr,
	}
	if !ingest.Trusted {
		var ok bool
		if _, ingest.Password, ok = r.BasicAuth(); !ok {
			return web.ErrUnauthorized
		}
	}
	rec, created, err := s.deps.Library.IngestRecording(r.Context(), ingest, body)
	s.metrics.received.Add(float64(body.request.Size()))
	switch {
	case err != nil && body.request.Stalled():
		return web.ErrBodyStalled
	case err != nil:
		return err
	case rec.SpoolID != "":
		c.Response().Header().Set("Location", spoolPath(rec.SpoolID))
		return sendJSON(c, http.StatusAccepted, s.view(rec))
	case created:
		return sendJSON(c, http.StatusCreated, s.view(rec))
	}
	return sendJSON(c, http.StatusOK, s.view(rec))
}

func (s *Server) listRecordings(c echo.Context) error {
	q, err := newQuery(c.Request(), "account", "after", "limit")
	if err != nil {
		return err
	}
	limit, err := q.limit()
	if err != nil {
		return err
	}
	if limit == 0 {
		limit = library.PageLimitDefault
	}
	if account := q.get("account"); account != "" {
		if err := naming.CheckAccount(account); err != nil {
			return err
		}
	}
	ctx := c.Request().Context()
	recs, next, err := s.deps.Library.ListRecordings(ctx, q.get("account"), q.get("after"), limit)
	if err != nil {
		return err
	}
	page := listOf[recordingView]{make([]recordingView, 0, len(recs)), next}
	for _, rec := range recs {
		page.Items = append(page.Items, s.view(rec))
	}
	return sendJSON(c, http.StatusOK, page)
}

func (s *Server) getRecording(c echo.Context) error {
	id, err := web.Param(c, "id")
	if err != nil {
		return err
	}
	rec, err := s.deps.Library.Recording(c.Request().Context(), id)
	if err != nil {
		return err
	}
	return sendJSON(c, http.StatusOK, s.view(rec))
}

// storeRequest says what becomes of a recording: an item, sound at a URL, both.
type storeRequest struct {
	library.StoreRequest
	export.Target
}

// storeRecording makes a recording an item and answers with its document, or
// sends it to a URL, or both.
func (s *Server) storeRecording(c echo.Context) error {
	recID, err := web.Param(c, "id")
	if err != nil {
		return err
	}
	var req storeRequest
	if err := readJSON(c, &req); err != nil {
		return err
	}
	header := c.Request().Header
	req.IfMatch = strings.Join(header.Values("If-Match"), ", ")
	req.IfNoneMatch = strings.Join(header.Values("If-None-Match"), ", ")
	switch item := req.Account != "" || req.ID != ""; {
	case req.URL != "" && item:
		return s.exportRecording(c, recID, req.Target, &req.StoreRequest)
	case req.URL != "":
		return s.exportRecording(c, recID, req.Target, nil)
	}
	if err := naming.CheckAccount(req.Account); err != nil {
		return err
	}
	if err := naming.CheckID(req.ID); err != nil {
		return err
	}
	doc, err := s.deps.Library.StoreRecording(c.Request().Context(), recID, req.StoreRequest)
	if err != nil {
		return err
	}
	c.Response().Header().Set("ETag", doc.ETag())
	return sendJSON(c, http.StatusOK, doc)
}

func (s *Server) discardRecording(c echo.Context) error {
	id, err := web.Param(c, "id")
	if err != nil {
		return err
	}
	if err := s.deps.Library.DiscardRecording(c.Request().Context(), id); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
