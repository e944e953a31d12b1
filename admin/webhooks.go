package admin

import (
	"context"
	"net/http"

	"github.com/labstack/echo/v4"

	"carillon/internal/web"
	"carillon/library/webhook"
)

// webhookLibrary is the part of the library that posts events elsewhere.
type webhookLibrary interface {
	PutWebhook(ctx context.Context, id string, r webhook.Request) (webhook.Status, bool, error)
	Webhook(ctx context.Context, id string) (webhook.Status, error)
	Webhooks(ctx context.Context) ([]webhook.Status, error)
	DeleteWebhook(ctx context.Context, id string) error
	TestWebhook(ctx context.Context, id string) (webhook.Trial, error)
}

func (s *Server) webhookRoutes(e *echo.Echo) {
	e.GET("/v1/webhooks", s.guarded("list_webhooks", s.listWebhooks))
	e.GET("/v1/webhooks/:id", s.guarded("get_webhook", s.getWebhook))
	e.PUT("/v1/webhooks/:id", s.guarded("put_webhook", s.putWebhook))
	e.POST("/v1/webhooks/:id/test", s.guarded("test_webhook", s.testWebhook))
	e.DELETE("/v1/webhooks/:id", s.guarded("delete_webhook", s.deleteWebhook))
}

func (s *Server) listWebhooks(c echo.Context) error {
	if _, err := newQuery(c.Request()); err != nil {
		return err
	}
	items, err := s.deps.Library.Webhooks(c.Request().Context())
	if err != nil {
		return err
	}
	return sendJSON(c, http.StatusOK, struct {
		Items []webhook.Status `json:"items"`
	}{items})
}

func (s *Server) getWebhook(c echo.Context) error {
	id, err := web.Param(c, "id")
	if err != nil {
		return err
	}
	hook, err := s.deps.Library.Webhook(c.Request().Context(), id)
	if err != nil {
		return err
	}
	return sendJSON(c, http.StatusOK, hook)
}

func (s *Server) putWebhook(c echo.Context) error {
	id, err := web.Param(c, "id")
	if err != nil {
		return err
	}
	var r webhook.Request
	if err := readJSON(c, &r); err != nil {
		return err
	}
	hook, created, err := s.deps.Library.PutWebhook(c.Request().Context(), id, r)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	return sendJSON(c, status, hook)
}

// testWebhook tries a delivery. What the receiver says is the answer, and 200
// whatever that is.
func (s *Server) testWebhook(c echo.Context) error {
	id, err := web.Param(c, "id")
	if err != nil {
		return err
	}
	tried, err := s.deps.Library.TestWebhook(c.Request().Context(), id)
	if err != nil {
		return err
	}
	return sendJSON(c, http.StatusOK, tried)
}

func (s *Server) deleteWebhook(c echo.Context) error {
	id, err := web.Param(c, "id")
	if err != nil {
		return err
	}
	if err := s.deps.Library.DeleteWebhook(c.Request().Context(), id); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
