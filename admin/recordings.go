package admin

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"

	"carillon/internal/web"
	"carillon/library"
)

// recordingView is the public form of a recording.
type recordingView struct {
	library.Recording
	// RecordURL holds the ticket's secret; it is only in the answer to the POST
	// that made the ticket.
	RecordURL string   `json:"record_url,omitempty"`
	PlayURLs  playURLs `json:"play_urls"`
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
	if err := library.CheckAccount(req.Account); err != nil {
		return err
	}
	rec, err := s.deps.Library.CreateRecording(c.Request().Context(), req)
	if err != nil {
		return err
	}
	v := s.view(rec)
	v.RecordURL = s.deps.Library.RecordURL(rec)
	c.Response().Header().Set("Location", "/v1/recordings/"+url.PathEscape(rec.ID))
	return sendJSON(c, http.StatusCreated, v)
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
		if err := library.CheckAccount(account); err != nil {
			return err
		}
	}
	ctx := c.Request().Context()
	recs, next, err := s.deps.Library.ListRecordings(ctx, q.get("account"), q.get("after"), limit)
	if err != nil {
		return err
	}
	page := struct {
		Items []recordingView `json:"items"`
		Next  string          `json:"next,omitempty"`
	}{make([]recordingView, 0, len(recs)), next}
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

// storeRecording makes a recording an item and answers with its document, or
// sends it to a URL, or both.
func (s *Server) storeRecording(c echo.Context) error {
	recID, err := web.Param(c, "id")
	if err != nil {
		return err
	}
	var req struct {
		library.StoreRequest
		library.ExportTarget
	}
	if err := readJSON(c, &req); err != nil {
		return err
	}
	header := c.Request().Header
	req.IfMatch = strings.Join(header.Values("If-Match"), ", ")
	req.IfNoneMatch = strings.Join(header.Values("If-None-Match"), ", ")
	switch item := req.Account != "" || req.ID != ""; {
	case req.URL != "" && item:
		return s.exportRecording(c, recID, req.ExportTarget, &req.StoreRequest)
	case req.URL != "":
		return s.exportRecording(c, recID, req.ExportTarget, nil)
	}
	if err := library.CheckAccount(req.Account); err != nil {
		return err
	}
	if err := library.CheckID(req.ID); err != nil {
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
