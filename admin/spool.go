package admin

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"carillon/internal/web"
	"carillon/library/spool"
)

// spooler shows what waits on this node for a majority.
type spooler interface {
	Spooled() []spool.Entry
	SpoolEntry(id string) (spool.Entry, error)
}

// spoolPath is where the state of a spooled item is asked for, on the node that
// took it.
func spoolPath(id string) string { return "/v1/spool/" + id }

// listSpool shows what waits here, in the order of arrival.
func (s *Server) listSpool(c echo.Context) error {
	return sendJSON(c, http.StatusOK, map[string]any{"items": s.deps.Library.Spooled()})
}

// getSpool shows what became of one item.
func (s *Server) getSpool(c echo.Context) error {
	id, err := web.Param(c, "id")
	if err != nil {
		return err
	}
	entry, err := s.deps.Library.SpoolEntry(id)
	if err != nil {
		return err
	}
	return sendJSON(c, http.StatusOK, entry)
}
