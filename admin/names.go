package admin

import (
	"context"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"carillon/library"
)

// nameLibrary is the part of the library that finds names and moves them.
type nameLibrary interface {
	Lookup(ctx context.Context, r library.LookupRequest) (library.Lookup, error)
	Copy(ctx context.Context, r library.CopyRequest) (library.Document, error)
	Rename(ctx context.Context, r library.CopyRequest) (library.Document, error)
	Alias(ctx context.Context, r library.AliasRequest) (library.Document, error)
	Undelete(ctx context.Context, r library.UndeleteRequest) (library.Document, error)
	Purge(ctx context.Context, account, id, ifMatch string) error
	Usage(ctx context.Context, account string) (library.AccountUsage, error)
	Expiring(ctx context.Context, account string, q library.ExpiryQuery) (library.Expiry, error)
	LastReaped(ctx context.Context) (library.Reaped, error)
}

func (s *Server) nameRoutes(e *echo.Echo) {
	e.GET("/v1/lookup", s.guarded("lookup", s.lookup))
	// Ids hold slashes, and these concern two items of maybe two accounts: so
	// the names stand in the body.
	e.POST("/v1/media/copy", s.guarded("copy_media", s.copyMedia))
	e.POST("/v1/media/rename", s.guarded("rename_media", s.renameMedia))
	e.POST("/v1/media/alias", s.guarded("alias_media", s.aliasMedia))
	e.POST("/v1/media/undelete", s.guarded("undelete_media", s.undeleteMedia))
	e.GET("/v1/accounts/:account/usage", s.guarded("account_usage", s.accountUsage))
	// It changes nothing; it is a POST because what is tried stands in the body.
	e.POST("/v1/accounts/:account/retention/preview", s.guarded("preview_retention", s.previewRetention))
	e.GET("/v1/reclaim", s.guarded("reclaim", s.reclaim))
}

func (s *Server) lookup(c echo.Context) error {
	q, err := newQuery(c.Request(), "name", "account", "language", "stream", "protocol", "consistency")
	if err != nil {
		return err
	}
	consistency, err := q.consistency()
	if err != nil {
		return err
	}
	found, err := s.deps.Library.Lookup(c.Request().Context(), library.LookupRequest{
		Name: q.get("name"), Account: q.get("account"), Language: q.get("language"),
		Stream: q.get("stream"), Protocol: q.get("protocol"), Consistency: consistency,
	})
	if err != nil {
		return err
	}
	return sendJSON(c, http.StatusOK, found)
}

func (s *Server) copyMedia(c echo.Context) error { return copyItem(c, s.deps.Library.Copy) }

func (s *Server) renameMedia(c echo.Context) error { return copyItem(c, s.deps.Library.Rename) }

func copyItem(
	c echo.Context, do func(context.Context, library.CopyRequest) (library.Document, error),
) error {
	var r library.CopyRequest
	if err := readJSON(c, &r); err != nil {
		return err
	}
	r.IfMatch = ifMatchOf(c)
	r.IfNoneMatch = strings.Join(c.Request().Header.Values("If-None-Match"), ", ")
	doc, err := do(c.Request().Context(), r)
	if err != nil {
		return err
	}
	return sendItem(c, doc)
}

// sendItem answers with an item that is found under its name from now on.
func sendItem(c echo.Context, doc library.Document) error {
	h := c.Response().Header()
	h.Set("Location", mediaPath(doc.Account, doc.ID))
	if doc.AliasOf == "" {
		h.Set("ETag", doc.ETag())
	}
	return sendJSON(c, http.StatusCreated, doc)
}

func (s *Server) aliasMedia(c echo.Context) error {
	var r library.AliasRequest
	if err := readJSON(c, &r); err != nil {
		return err
	}
	doc, err := s.deps.Library.Alias(c.Request().Context(), r)
	if err != nil {
		return err
	}
	return sendItem(c, doc)
}

func (s *Server) undeleteMedia(c echo.Context) error {
	var r library.UndeleteRequest
	if err := readJSON(c, &r); err != nil {
		return err
	}
	doc, err := s.deps.Library.Undelete(c.Request().Context(), r)
	if err != nil {
		return err
	}
	return sendItem(c, doc)
}

func (s *Server) accountUsage(c echo.Context) error {
	account, err := accountOf(c)
	if err != nil {
		return err
	}
	usage, err := s.deps.Library.Usage(c.Request().Context(), account)
	if err != nil {
		return err
	}
	return sendJSON(c, http.StatusOK, usage)
}

// previewRetention says what a retention would delete, that of the account or
// the one in the body.
func (s *Server) previewRetention(c echo.Context) error {
	account, err := accountOf(c)
	if err != nil {
		return err
	}
	var q library.ExpiryQuery
	if err := readJSON(c, &q); err != nil {
		return err
	}
	expiry, err := s.deps.Library.Expiring(c.Request().Context(), account, q)
	if err != nil {
		return err
	}
	return sendJSON(c, http.StatusOK, expiry)
}

// reclaim says what was deleted and still takes room.
func (s *Server) reclaim(c echo.Context) error {
	reaped, err := s.deps.Library.LastReaped(c.Request().Context())
	if err != nil {
		return err
	}
	return sendJSON(c, http.StatusOK, reaped)
}
