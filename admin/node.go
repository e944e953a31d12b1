package admin

import (
	"net/http"
	"net/netip"

	"github.com/labstack/echo/v4"

	"carillon/internal/web"
)

func (s *Server) cluster(c echo.Context) error {
	status, err := s.deps.Status(c.Request().Context())
	if err != nil {
		return err
	}
	return sendJSON(c, http.StatusOK, status)
}

func (s *Server) version(c echo.Context) error {
	return sendJSON(c, http.StatusOK, s.cfg.Version)
}

// health is the answer to both health questions.
type health struct {
	Status string `json:"status"` // ok, starting
	Reason string `json:"reason,omitempty"`
}

// healthz says that the process answers; nothing else may make it fail, or a
// supervisor would restart a node that only waits for its peers.
func (s *Server) healthz(c echo.Context) error {
	return sendJSON(c, http.StatusOK, health{Status: "ok"})
}

// readyz says whether traffic may be sent here.
func (s *Server) readyz(c echo.Context) error {
	if err := s.deps.Ready(); err != nil {
		return sendJSON(c, http.StatusServiceUnavailable, health{Status: "starting", Reason: err.Error()})
	}
	return sendJSON(c, http.StatusOK, health{Status: "ok"})
}

// metricsPage is open to the networks that may play, as scrapers seldom carry
// tokens, and to tokens from anywhere.
func (s *Server) metricsPage(page http.Handler) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		ap, err := netip.ParseAddrPort(r.RemoteAddr)
		if err == nil && s.deps.Allow(ap.Addr().Unmap().WithZone("")) || s.deps.Tokens.Allow(r) {
			page.ServeHTTP(c.Response(), r)
			return nil
		}
		return web.ErrUnauthorized
	}
}
