package admin

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"carillon/internal/web"
)

// mediaUses answers with the places that lead to an item. An id that holds a
// slash is escaped here, as everywhere below /v1.
func (s *Server) mediaUses(c echo.Context) error {
	account, err := accountOf(c)
	if err != nil {
		return err
	}
	id, err := web.Param(c, "id")
	if err != nil {
		return err
	}
	uses, err := s.deps.Library.Uses(c.Request().Context(), account, id)
	if err != nil {
		return err
	}
	return sendJSON(c, http.StatusOK, uses)
}
