package admin

import (
	"context"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"carillon/library"
)

// playlistLibrary is the part of the library that keeps playlists.
type playlistLibrary interface {
	Playlist(ctx context.Context, account, id string) (library.Playlist, error)
	PutPlaylist(ctx context.Context, p library.Playlist, ifMatch, ifNoneMatch string) (
		library.Playlist, bool, error)
	DeletePlaylist(ctx context.Context, account, id, ifMatch string) error
	ListPlaylists(ctx context.Context, account, after string, limit int) ([]library.Playlist, string, error)
}

func (s *Server) playlistRoutes(e *echo.Echo) {
	e.GET("/v1/accounts/:account/playlists", s.guarded("list_playlists", s.listPlaylists))
	e.GET("/v1/accounts/:account/playlists/*", s.guarded("get_playlist", s.getPlaylist))
	e.PUT("/v1/accounts/:account/playlists/*", s.guarded("put_playlist", s.putPlaylist))
	e.DELETE("/v1/accounts/:account/playlists/*", s.guarded("delete_playlist", s.deletePlaylist))
}

func (s *Server) listPlaylists(c echo.Context) error {
	account, err := accountOf(c)
	if err != nil {
		return err
	}
	q, err := newQuery(c.Request(), "after", "limit")
	if err != nil {
		return err
	}
	limit, err := q.limit()
	if err != nil {
		return err
	}
	items, next, err := s.deps.Library.ListPlaylists(c.Request().Context(), account, q.get("after"), limit)
	if err != nil {
		return err
	}
	return sendJSON(c, http.StatusOK, listOf[library.Playlist]{items, next})
}

func (s *Server) getPlaylist(c echo.Context) error {
	account, id, err := itemOf(c)
	if err != nil {
		return err
	}
	p, err := s.deps.Library.Playlist(c.Request().Context(), account, id)
	if err != nil {
		return err
	}
	return sendPlaylist(c, http.StatusOK, p)
}

// putPlaylist creates or replaces a playlist; what the body leaves out is empty.
func (s *Server) putPlaylist(c echo.Context) error {
	account, id, err := itemOf(c)
	if err != nil {
		return err
	}
	var body struct {
		Name    string   `json:"name"`
		Items   []string `json:"items"`
		Shuffle bool     `json:"shuffle"`
	}
	if err := readJSON(c, &body); err != nil {
		return err
	}
	p, created, err := s.deps.Library.PutPlaylist(c.Request().Context(), library.Playlist{
		Account: account, ID: id, Name: body.Name, Items: body.Items, Shuffle: body.Shuffle,
	}, ifMatchOf(c), strings.Join(c.Request().Header.Values("If-None-Match"), ", "))
	if err != nil {
		return err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	return sendPlaylist(c, status, p)
}

func sendPlaylist(c echo.Context, status int, p library.Playlist) error {
	c.Response().Header().Set("ETag", p.ETag())
	return sendJSON(c, status, p)
}

func (s *Server) deletePlaylist(c echo.Context) error {
	account, id, err := itemOf(c)
	if err != nil {
		return err
	}
	if err := s.deps.Library.DeletePlaylist(c.Request().Context(), account, id, ifMatchOf(c)); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
