package admin

import (
	"context"
	"net/http"
	"net/url"

	"github.com/labstack/echo/v4"

	"carillon/internal/web"
	"carillon/library"
	"carillon/library/export"
)

// exportLibrary is the part of the library that sends sound elsewhere.
type exportLibrary interface {
	ExportRecording(
		ctx context.Context, recordingID string, t export.Target, store *library.StoreRequest,
	) (export.Order, error)
	ExportItem(ctx context.Context, r library.ItemExport) (export.Order, error)
	Exports(ctx context.Context, q export.Query) ([]export.Order, string, error)
	Export(ctx context.Context, id string) (export.Order, error)
	RetryExport(ctx context.Context, id string) (export.Order, error)
	RemoveExport(ctx context.Context, id string) error
}

func (s *Server) exportRoutes(e *echo.Echo) {
	e.GET("/v1/exports", s.guarded("list_exports", s.listExports))
	e.POST("/v1/exports", s.guarded("export_item", s.exportItem))
	e.GET("/v1/exports/:id", s.guarded("get_export", s.getExport))
	e.POST("/v1/exports/:id/retry", s.guarded("retry_export", s.retryExport))
	e.DELETE("/v1/exports/:id", s.guarded("remove_export", s.removeExport))
}

// exportRecording answers a store request that names a URL: 202, the order is
// durable, and where to ask what became of it.
func (s *Server) exportRecording(
	c echo.Context, recordingID string, t export.Target, store *library.StoreRequest,
) error {
	order, err := s.deps.Library.ExportRecording(c.Request().Context(), recordingID, t, store)
	return sendOrder(c, order, err)
}

// exportItem orders the sound of an item to be sent to a URL.
func (s *Server) exportItem(c echo.Context) error {
	var r library.ItemExport
	if err := readJSON(c, &r); err != nil {
		return err
	}
	r.IfMatch = ifMatchOf(c)
	order, err := s.deps.Library.ExportItem(c.Request().Context(), r)
	return sendOrder(c, order, err)
}

// sendOrder answers with an order that is durable, and not carried out yet.
func sendOrder(c echo.Context, order export.Order, err error) error {
	if err != nil {
		return err
	}
	c.Response().Header().Set("Location", "/v1/exports/"+url.PathEscape(order.ID))
	return sendJSON(c, http.StatusAccepted, order)
}

func (s *Server) listExports(c echo.Context) error {
	q, err := newQuery(c.Request(), "account", "state", "after", "limit")
	if err != nil {
		return err
	}
	limit, err := q.limit()
	if err != nil {
		return err
	}
	items, next, err := s.deps.Library.Exports(c.Request().Context(), export.Query{
		Account: q.get("account"), State: export.State(q.get("state")), After: q.get("after"), Limit: limit,
	})
	if err != nil {
		return err
	}
	return sendJSON(c, http.StatusOK, listOf[export.Order]{items, next})
}

func (s *Server) getExport(c echo.Context) error { return s.exportAnswer(c, s.deps.Library.Export) }

func (s *Server) retryExport(c echo.Context) error {
	return s.exportAnswer(c, s.deps.Library.RetryExport)
}

func (s *Server) exportAnswer(
	c echo.Context, of func(ctx context.Context, id string) (export.Order, error),
) error {
	id, err := web.Param(c, "id")
	if err != nil {
		return err
	}
	export, err := of(c.Request().Context(), id)
	if err != nil {
		return err
	}
	return sendJSON(c, http.StatusOK, export)
}

func (s *Server) removeExport(c echo.Context) error {
	id, err := web.Param(c, "id")
	if err != nil {
		return err
	}
	if err := s.deps.Library.RemoveExport(c.Request().Context(), id); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
