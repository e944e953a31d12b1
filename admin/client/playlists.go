package client

import (
	"context"
	"net/http"
	"net/url"

	"carillon/library"
)

func playlistPath(account, id string) string {
	return accountPath(account) + "/playlists/" + url.PathEscape(id)
}

// Playlist returns a playlist.
func (c *Client) Playlist(ctx context.Context, account, id string) (library.Playlist, error) {
	var p library.Playlist
	err := c.call(ctx, http.MethodGet, playlistPath(account, id), nil, nil, &p)
	return p, err
}

// PutPlaylist creates or replaces the playlist p.Account/p.ID; name, items and
// shuffle count.
func (c *Client) PutPlaylist(ctx context.Context, p library.Playlist) (library.Playlist, error) {
	body := map[string]any{"name": p.Name, "items": p.Items, "shuffle": p.Shuffle}
	var stored library.Playlist
	err := c.call(ctx, http.MethodPut, playlistPath(p.Account, p.ID), nil, body, &stored)
	return stored, err
}

// DeletePlaylist removes a playlist; its items stay.
func (c *Client) DeletePlaylist(ctx context.Context, account, id string) error {
	return c.call(ctx, http.MethodDelete, playlistPath(account, id), nil, nil, nil)
}

// Playlists returns a page of the playlists of an account, and the after of the
// next page, "" at the end.
func (c *Client) Playlists(
	ctx context.Context, account, after string, limit int,
) (page []library.Playlist, next string, err error) {
	v := query(limit, map[string]string{"after": after})
	return listPage[library.Playlist](ctx, c, accountPath(account)+"/playlists", v)
}
