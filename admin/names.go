package admin

import (
	"cmp"
	"context"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"carillon/internal/web"
	"carillon/library"
	"carillon/library/field"
)

// nameLibrary is the part of the library that finds names and moves them.
type nameLibrary interface {
	Lookup(ctx context.Context, r library.LookupRequest) (library.Lookup, error)
	LookupAll(ctx context.Context, rs []library.LookupRequest) ([]library.LookupResult, error)
	Prompts(ctx context.Context, account string, q library.PromptQuery) (library.PromptPage, error)
	Languages(ctx context.Context, account string) ([]library.LanguageCount, error)
	Copy(ctx context.Context, r library.CopyRequest) (library.Document, error)
	Rename(ctx context.Context, r library.CopyRequest) (library.Document, error)
	Alias(ctx context.Context, r library.AliasRequest) (library.Document, error)
	Undelete(ctx context.Context, r library.UndeleteRequest) (library.Document, error)
	Uses(ctx context.Context, account, id string) (library.Uses, error)
	Purge(ctx context.Context, account, id, ifMatch string) error
	Usage(ctx context.Context, account string) (library.AccountUsage, error)
	Expiring(ctx context.Context, account string, q library.ExpiryQuery) (library.Expiry, error)
	LastReaped(ctx context.Context) (library.Reaped, error)
}

func (s *Server) nameRoutes(e *echo.Echo) {
	e.GET("/v1/lookup", s.guarded("lookup", s.lookup))
	e.POST("/v1/lookup", s.guarded("lookup_all", s.lookupAll))
	e.GET("/v1/accounts/:account/prompts", s.guarded("list_prompts", s.listPrompts))
	e.GET("/v1/accounts/:account/languages", s.guarded("list_languages", s.listLanguages))
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
	q, err := newQuery(c.Request(), "name", "account", "language", "stream", "protocol", "player",
		"consistency")
	if err != nil {
		return err
	}
	consistency, err := q.consistency()
	if err != nil {
		return err
	}
	found, err := s.deps.Library.Lookup(c.Request().Context(), library.LookupRequest{
		Name: q.get("name"), Account: q.get("account"), Language: q.get("language"),
		Stream: q.get("stream"), Protocol: q.get("protocol"),
		Player: library.Player(q.get("player")), Consistency: consistency,
	})
	if err != nil {
		return err
	}
	return sendJSON(c, http.StatusOK, found)
}

// oneLookup is a lookup of a POST. What it does not say is taken from the
// request as a whole.
type oneLookup struct {
	Name     string         `json:"name"`
	Account  string         `json:"account"`
	Language string         `json:"language"`
	Stream   string         `json:"stream"`
	Protocol string         `json:"protocol"`
	Player   library.Player `json:"player"`
}

// oneFound is the answer to a lookup of a POST: what was found, or an error.
type oneFound struct {
	Name string `json:"name"` // as it was asked for
	*library.Lookup
	Error *lookupFailure `json:"error,omitempty"`
}

// lookupFailure is what is wrong with one of several lookups.
type lookupFailure struct {
	Code    string       `json:"code"`
	Message string       `json:"message"`
	Fields  field.Errors `json:"fields,omitempty"`
}

func (o *oneLookup) over(whole *oneLookup, consistency library.Consistency) library.LookupRequest {
	return library.LookupRequest{
		Name: o.Name, Account: cmp.Or(o.Account, whole.Account), Language: cmp.Or(o.Language, whole.Language),
		Stream: cmp.Or(o.Stream, whole.Stream), Protocol: cmp.Or(o.Protocol, whole.Protocol),
		Player: cmp.Or(o.Player, whole.Player), Consistency: consistency,
	}
}

// manyLookups is the body of a POST.
type manyLookups struct {
	oneLookup

	Consistency library.Consistency `json:"consistency"`
	Lookups     []oneLookup         `json:"lookups"`
}

// lookupAll answers many lookups. Each has its own answer or error; the status
// is 200 unless the request itself is wrong.
func (s *Server) lookupAll(c echo.Context) error {
	var body manyLookups
	if err := readJSON(c, &body); err != nil {
		return err
	}
	consistency, err := consistencyOf(body.Consistency)
	if err != nil {
		return err
	}
	if body.Name != "" { // one would wait for an answer that does not come
		return field.Errors{"name": {Code: field.Invalid, Message: "stands in the entries of lookups"}}
	}
	rs := make([]library.LookupRequest, len(body.Lookups))
	for i := range body.Lookups {
		rs[i] = body.Lookups[i].over(&body.oneLookup, consistency)
	}
	found, err := s.deps.Library.LookupAll(c.Request().Context(), rs)
	if err != nil {
		return err
	}
	items := make([]oneFound, len(found))
	for i := range found {
		items[i].Name = body.Lookups[i].Name
		if err := found[i].Err; err != nil {
			code, message, fields := web.Explain(err)
			items[i].Error = &lookupFailure{code, message, fields}
			continue
		}
		items[i].Lookup = &found[i].Lookup
	}
	return sendJSON(c, http.StatusOK, listOf[oneFound]{Items: items})
}

func (s *Server) listPrompts(c echo.Context) error {
	account, err := accountOf(c)
	if err != nil {
		return err
	}
	q, err := newQuery(c.Request(), "prefix", "after", "limit", "language", "missing")
	if err != nil {
		return err
	}
	limit, err := q.limit()
	if err != nil {
		return err
	}
	page, err := s.deps.Library.Prompts(c.Request().Context(), account, library.PromptQuery{
		Prefix: q.get("prefix"), After: q.get("after"), Limit: limit, Language: q.get("language"),
		Missing: q.get("missing"),
	})
	if err != nil {
		return err
	}
	return sendJSON(c, http.StatusOK, page)
}

func (s *Server) listLanguages(c echo.Context) error {
	account, err := accountOf(c)
	if err != nil {
		return err
	}
	languages, err := s.deps.Library.Languages(c.Request().Context(), account)
	if err != nil {
		return err
	}
	return sendJSON(c, http.StatusOK, map[string]any{"items": languages})
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
