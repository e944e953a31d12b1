package main

import (
	"context"
	"fmt"
	"strings"

	"carillon/library"
)

// playlistsCmd groups the commands on playlists.
type playlistsCmd struct {
	Ls   playlistsLsCmd   `cmd:"" help:"List the playlists of an account."`
	Show playlistsShowCmd `cmd:"" help:"Show a playlist."`
	Put  playlistsPutCmd  `cmd:"" help:"Create or replace a playlist."`
	Rm   playlistsRmCmd   `cmd:"" help:"Remove a playlist; its items stay."`
}

type playlistsLsCmd struct {
	Account string `arg:"" help:"Account."`
}

// Run lists the playlists.
func (c *playlistsLsCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	all, err := allPages(func(after string) ([]library.Playlist, string, error) {
		return api.Playlists(ctx, c.Account, after, library.PageLimitMax)
	})
	if err != nil {
		return fmt.Errorf("playlists of %s: %w", c.Account, err)
	}
	if g.JSON {
		return printJSON(tty.out, map[string]any{"items": all})
	}
	for i := range all {
		if err := printf(tty.out, "%s/%s  %d items\n", all[i].Account, all[i].ID, len(all[i].Items)); err != nil {
			return err
		}
	}
	return nil
}

type playlistsShowCmd struct {
	Playlist item `arg:"" placeholder:"ACCOUNT/ID" help:"Playlist."`
}

// Run shows a playlist.
func (c *playlistsShowCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	p, err := api.Playlist(ctx, c.Playlist.account, c.Playlist.id)
	if err != nil {
		return failed("show", c.Playlist, err)
	}
	if g.JSON {
		return printJSON(tty.out, p)
	}
	return printf(tty.out, "playlist  %s/%s\nname      %s\nshuffle   %v\nitems     %s\n",
		p.Account, p.ID, p.Name, p.Shuffle, strings.Join(p.Items, "\n          "))
}

type playlistsPutCmd struct {
	Playlist item     `arg:"" placeholder:"ACCOUNT/ID" help:"Playlist."`
	Items    []string `arg:"" placeholder:"ITEM" help:"Ids of the account, or /ACCOUNT/ID, in their order."`
	Name     string   `help:"A name for people."`
	Shuffle  bool     `help:"Play them in another order each time."`
}

// Run stores a playlist.
func (c *playlistsPutCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	p, err := api.PutPlaylist(ctx, library.Playlist{
		Account: c.Playlist.account, ID: c.Playlist.id, Name: c.Name, Items: c.Items, Shuffle: c.Shuffle,
	})
	if err != nil {
		return failed("put", c.Playlist, err)
	}
	if g.JSON {
		return printJSON(tty.out, p)
	}
	return printf(tty.out, "stored %s  %d items\n", c.Playlist, len(p.Items))
}

type playlistsRmCmd struct {
	Playlist item `arg:"" placeholder:"ACCOUNT/ID" help:"Playlist."`
}

// Run removes a playlist.
func (c *playlistsRmCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	if err := api.DeletePlaylist(ctx, c.Playlist.account, c.Playlist.id); err != nil {
		return failed("rm", c.Playlist, err)
	}
	if g.JSON {
		return printJSON(tty.out, map[string]any{"removed": c.Playlist.String()})
	}
	return printf(tty.out, "removed %s\n", c.Playlist)
}
