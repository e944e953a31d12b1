package admin

import (
	"context"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"carillon/library"
)

// accountLibrary is the part of the library that keeps account settings.
type accountLibrary interface {
	Account(ctx context.Context, account string, c library.Consistency) (library.AccountSettings, error)
	UpdateAccount(ctx context.Context, account, ifMatch string, edit func(*library.AccountSettings) error) (
		library.AccountSettings, error)
	DeleteAccount(ctx context.Context, account, ifMatch string) error
	Accounts(ctx context.Context, after string, limit int) ([]library.AccountSettings, string, error)
}

func (s *Server) accountRoutes(e *echo.Echo) {
	e.GET("/v1/accounts", s.guarded("list_accounts", s.listAccounts))
	e.GET("/v1/accounts/:account", s.guarded("get_account", s.getAccount))
	e.PUT("/v1/accounts/:account", s.guarded("put_account", s.putAccount))
	e.PATCH("/v1/accounts/:account", s.guarded("patch_account", s.patchAccount))
	e.DELETE("/v1/accounts/:account", s.guarded("delete_account", s.deleteAccount))
}

func ifMatchOf(c echo.Context) string {
	return strings.Join(c.Request().Header.Values("If-Match"), ", ")
}

func (s *Server) listAccounts(c echo.Context) error {
	q, err := newQuery(c.Request(), "after", "limit")
	if err != nil {
		return err
	}
	limit, err := q.limit()
	if err != nil {
		return err
	}
	items, next, err := s.deps.Library.Accounts(c.Request().Context(), q.get("after"), limit)
	if err != nil {
		return err
	}
	return sendJSON(c, http.StatusOK, listOf[library.AccountSettings]{items, next})
}

func (s *Server) getAccount(c echo.Context) error {
	account, err := accountOf(c)
	if err != nil {
		return err
	}
	settings, err := s.deps.Library.Account(c.Request().Context(), account, library.Fresh)
	if err != nil {
		return err
	}
	return sendAccount(c, settings)
}

// putAccount replaces all settings: what the body leaves out has its default.
func (s *Server) putAccount(c echo.Context) error {
	return s.editAccount(c, func(settings *library.AccountSettings, body []byte) error {
		before := *settings
		*settings = library.AccountSettings{}
		if err := decodeJSON(body, settings); err != nil {
			return err
		}
		if settings.ListenerAuth.Mode != "" && settings.ListenerAuth.Password == "" {
			settings.ListenerAuth.Password = before.ListenerAuth.Password // it cannot be read, so it is not sent back
		}
		return nil
	})
}

// patchAccount changes the settings that the body names, and in its objects
// the entries that these name.
func (s *Server) patchAccount(c echo.Context) error {
	return s.editAccount(c, func(settings *library.AccountSettings, body []byte) error {
		return decodeJSON(body, settings) // over what is there
	})
}

func (s *Server) editAccount(
	c echo.Context, edit func(settings *library.AccountSettings, body []byte) error,
) error {
	account, err := accountOf(c)
	if err != nil {
		return err
	}
	body, err := readBody(c)
	if err != nil {
		return err
	}
	settings, err := s.deps.Library.UpdateAccount(c.Request().Context(), account, ifMatchOf(c),
		func(settings *library.AccountSettings) error { return edit(settings, body) })
	if err != nil {
		return err
	}
	return sendAccount(c, settings)
}

func sendAccount(c echo.Context, settings library.AccountSettings) error {
	if tag := settings.ETag(); tag != "" {
		c.Response().Header().Set("ETag", tag)
	}
	return sendJSON(c, http.StatusOK, settings)
}

func (s *Server) deleteAccount(c echo.Context) error {
	account, err := accountOf(c)
	if err != nil {
		return err
	}
	if err := s.deps.Library.DeleteAccount(c.Request().Context(), account, ifMatchOf(c)); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
