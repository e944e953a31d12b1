package library

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"carillon/blobstore"
	"carillon/library/field"
	"carillon/library/naming"
	"carillon/library/rows"
)

const (
	// playlistPrefix starts the keys of playlists: q1/{account}/{id}.
	playlistPrefix = "q1/"
	// PlaylistItemsMax bounds the items of a playlist: a day of songs.
	PlaylistItemsMax = 500
)

// Playlist is an ordered list of items that plays as one continuous sound, for
// music on hold. It is played under its id like an item.
type Playlist struct {
	Account string `json:"account"`
	ID      string `json:"id"`
	// Revision is the log position of the commit that wrote it.
	Revision uint64 `json:"revision"`
	Name     string `json:"name,omitempty"` // for people
	// Items are ids of the account, or /ACCOUNT/ID of another. One that is not
	// there, or cannot be decoded, is passed over.
	Items []string `json:"items"`
	// Shuffle plays them in another order each time, the same on all nodes.
	Shuffle  bool      `json:"shuffle"`
	Created  time.Time `json:"created"`
	Modified time.Time `json:"modified"`
}

// ETag is the validator of the playlist.
func (p *Playlist) ETag() string { return fmt.Sprintf(`"%d"`, p.Revision) }

// playlistRow is a Playlist as it lies in the catalog.
type playlistRow struct {
	Name       string   `json:"nm,omitempty"`
	Items      []string `json:"i"`
	Shuffle    bool     `json:"s,omitempty"`
	CreatedMS  int64    `json:"c"`
	ModifiedMS int64    `json:"u"`
}

func playlistKey(account, id string) string { return playlistPrefix + account + "/" + id }

func decodePlaylist(account, id string, row blobstore.Row) (Playlist, error) {
	var r playlistRow
	if err := rows.Decode(row.Value, &r); err != nil {
		return Playlist{}, fmt.Errorf("playlist %s/%s: %w", account, id, err)
	}
	return Playlist{
		Account: account, ID: id, Revision: row.Revision, Name: r.Name, Items: r.Items, Shuffle: r.Shuffle,
		Created: rows.FromMS(r.CreatedMS), Modified: rows.FromMS(r.ModifiedMS),
	}, nil
}

// check returns field.Errors unless the playlist can be stored.
func (p *Playlist) check() error {
	var c checks
	c.Text("name", p.Name, TextBytesMax)
	switch {
	case len(p.Items) == 0:
		c.Fail("items", field.Required, "must name an item")
	case len(p.Items) > PlaylistItemsMax:
		c.Fail("items", field.TooLong, "has %d entries, at most %d", len(p.Items), PlaylistItemsMax)
	}
	for _, name := range p.Items {
		account, id := p.place(name)
		if err := naming.CheckItem(account, id); err != nil {
			c.Fail("items", field.Invalid, "holds %s: %v", naming.Shown(name), err)
		} else if account == p.Account && id == p.ID {
			c.Fail("items", field.Loop, "holds the playlist itself")
		}
	}
	return c.Err()
}

// place is where an item of the playlist lies.
func (p *Playlist) place(name string) (account, id string) {
	if rest, absolute := strings.CutPrefix(name, "/"); absolute {
		account, id, _ = strings.Cut(rest, "/")
		return account, id
	}
	return p.Account, name
}

// Playlist returns the playlist {account}/{id}.
func (l *Library) Playlist(ctx context.Context, account, id string) (Playlist, error) {
	if err := naming.CheckItem(account, id); err != nil {
		return Playlist{}, err
	}
	var p *Playlist
	err := l.rows.Find(ctx, func() (err error) {
		p, err = l.playlist(ctx, account, id)
		return err
	})
	if err != nil {
		return Playlist{}, err
	}
	return *p, nil
}

// playlist returns the playlist as this node knows it, or ErrNotFound.
func (l *Library) playlist(ctx context.Context, account, id string) (*Playlist, error) {
	row, err := l.rows.Get(ctx, playlistKey(account, id))
	if err != nil {
		return nil, rows.NotFound(err, "playlist", account, id)
	}
	p, err := decodePlaylist(account, id, row)
	if err != nil {
		return nil, err
	}
	return &p, nil
}

// PutPlaylist creates or replaces a playlist, and says whether it is new. The
// conditions are the raw headers. It returns field.Errors for what is not valid.
func (l *Library) PutPlaylist(
	ctx context.Context, p Playlist, ifMatch, ifNoneMatch string,
) (Playlist, bool, error) {
	if err := naming.CheckItem(p.Account, p.ID); err != nil {
		return Playlist{}, false, err
	}
	if err := p.check(); err != nil {
		return Playlist{}, false, err
	}
	created := false
	revision, err := l.changePlaylist(ctx, p.Account, p.ID, func(before *Playlist, c *change) error {
		etag := ""
		p.Modified = time.Now().UTC().Truncate(time.Millisecond)
		p.Created = p.Modified
		if created = before == nil; !created {
			etag, p.Created = before.ETag(), before.Created
		}
		if err := checkConditions(ifMatch, ifNoneMatch, etag); err != nil {
			return err
		}
		c.putPlaylist(&p)
		return nil
	})
	p.Revision = revision
	return p, created, err
}

// DeletePlaylist removes a playlist; ErrNotFound when there is none. Its items
// stay, and who listens hears it to the end of the moment.
func (l *Library) DeletePlaylist(ctx context.Context, account, id, ifMatch string) error {
	if err := naming.CheckItem(account, id); err != nil {
		return err
	}
	_, err := l.changePlaylist(ctx, account, id, func(before *Playlist, c *change) error {
		if before == nil {
			return fmt.Errorf("playlist %s/%s: %w", account, id, ErrNotFound)
		}
		if err := checkConditions(ifMatch, "", before.ETag()); err != nil {
			return err
		}
		c.Remove(playlistKey(account, id))
		return nil
	})
	return err
}

// changePlaylist commits what edit makes of the playlist that is there, nil for
// none, by what the whole cluster knows.
func (l *Library) changePlaylist(
	ctx context.Context, account, id string, edit func(before *Playlist, c *change) error,
) (uint64, error) {
	if err := l.rows.Fresh(ctx); err != nil {
		return 0, err
	}
	return l.rows.Write(ctx, func() (blobstore.Txn, error) {
		before, err := l.playlist(ctx, account, id)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return blobstore.Txn{}, err
		}
		c := l.newChange()
		revision := uint64(0)
		if before != nil {
			revision = before.Revision
		}
		c.Expect(playlistKey(account, id), revision)
		if err := edit(before, c); err != nil {
			return blobstore.Txn{}, err
		}
		return c.Done()
	})
}

// ListPlaylists returns the playlists of an account in the order of their ids,
// and the after of the next page, "" at the end. Limit 0: PageLimitDefault.
func (l *Library) ListPlaylists(
	ctx context.Context, account, after string, limit int,
) (found []Playlist, next string, err error) {
	if err := naming.CheckAccount(account); err != nil {
		return nil, "", err
	}
	if limit, err = rows.PageLimit(limit); err != nil {
		return nil, "", err
	}
	prefix := playlistPrefix + account + "/"
	from := ""
	if after != "" {
		from = prefix + after
	}
	found = []Playlist{}
	for row, err := range l.rows.Scan(ctx, prefix, from) {
		if err != nil {
			return nil, "", fmt.Errorf("list playlists of %s: %w", account, err)
		}
		if len(found) == limit {
			return found, found[limit-1].ID, nil
		}
		p, err := decodePlaylist(account, row.Key[len(prefix):], row)
		if err != nil {
			return nil, "", err
		}
		found = append(found, p)
	}
	return found, "", nil
}
