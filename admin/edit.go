package admin

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"carillon/internal/web"
	"carillon/library"
)

// editLibrary is the part of the library that works on sound itself.
type editLibrary interface {
	Join(ctx context.Context, r library.JoinRequest) (library.Document, bool, error)
	Trim(ctx context.Context, r library.TrimRequest) (library.Document, bool, error)
	Silence(ctx context.Context, r library.SilenceRequest) (library.SilenceAnswer, error)
}

func (s *Server) editRoutes(e *echo.Echo) {
	e.POST("/v1/media/join", s.guarded("join_media", s.joinMedia))
	e.POST("/v1/media/trim", s.guarded("trim_media", s.trimMedia))
	e.GET("/v1/media/silence", s.guarded("media_silence", s.mediaSilence))
	e.GET("/v1/recordings/:id/silence", s.guarded("recording_silence", s.recordingSilence))
}

func (s *Server) joinMedia(c echo.Context) error {
	var r library.JoinRequest
	if err := readJSON(c, &r); err != nil {
		return err
	}
	r.IfMatch, r.IfNoneMatch = ifMatchOf(c), strings.Join(c.Request().Header.Values("If-None-Match"), ", ")
	doc, created, err := s.deps.Library.Join(c.Request().Context(), r)
	return sendEdited(c, doc, created, err)
}

func (s *Server) trimMedia(c echo.Context) error {
	var r library.TrimRequest
	if err := readJSON(c, &r); err != nil {
		return err
	}
	r.IfMatch, r.IfNoneMatch = ifMatchOf(c), strings.Join(c.Request().Header.Values("If-None-Match"), ", ")
	doc, created, err := s.deps.Library.Trim(c.Request().Context(), r)
	return sendEdited(c, doc, created, err)
}

// sendEdited answers with an item that was made: 201, or 200 in place of another.
func sendEdited(c echo.Context, doc library.Document, created bool, err error) error {
	if err != nil {
		return err
	}
	if created {
		return sendItem(c, doc)
	}
	c.Response().Header().Set("ETag", doc.ETag())
	return sendJSON(c, http.StatusOK, doc)
}

func (s *Server) mediaSilence(c echo.Context) error {
	return s.silence(c, "account", "id", "recording_id", "threshold_db", "minimum_ms")
}

func (s *Server) recordingSilence(c echo.Context) error {
	return s.silence(c, "threshold_db", "minimum_ms")
}

func (s *Server) silence(c echo.Context, known ...string) error {
	q, err := newQuery(c.Request(), known...)
	if err != nil {
		return err
	}
	r := library.SilenceRequest{Account: q.get("account"), ID: q.get("id"), RecordingID: q.get("recording_id")}
	if c.Param("id") != "" {
		if r.RecordingID, err = web.Param(c, "id"); err != nil {
			return err
		}
	}
	if text := q.get("threshold_db"); text != "" {
		if r.ThresholdDB, err = strconv.ParseFloat(text, 64); err != nil {
			return fmt.Errorf("threshold_db must be a number: %w", library.ErrBadRequest)
		}
	}
	if text := q.get("minimum_ms"); text != "" {
		if r.MinimumMS, err = strconv.ParseInt(text, 10, 64); err != nil {
			return fmt.Errorf("minimum_ms must be a number: %w", library.ErrBadRequest)
		}
	}
	answer, err := s.deps.Library.Silence(c.Request().Context(), r)
	if err != nil {
		return err
	}
	return sendJSON(c, http.StatusOK, answer)
}
