package library

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"carillon/blobstore"
	"carillon/library/feed"
	"carillon/library/field"
	"carillon/library/naming"
	"carillon/library/rows"
)

const (
	// renamedPlacesMax bounds the second names and playlists that follow a
	// rename. They are in its commit, at three operations each of
	// blobstore.TxnOpsMax, beside some twenty of the item itself.
	renamedPlacesMax = 64
	// renamedBytesMax bounds their rows: half of what one entry of the log holds.
	renamedBytesMax = 512 << 10
	// renamedShownMax is how many places an error names: it is one line.
	renamedShownMax = 5
	// namedPrefix starts the marks of second names: z1/named/{hash}. Who makes
	// one writes the mark of what it stands for, and a rename rests on that: it
	// cannot miss one that is made while it searches. One mark for all items
	// would let an import of second names hold up every rename, one for each
	// would stay behind when the item goes.
	namedPrefix = "z1/named/"
)

// namedKey is the mark of the second names of an item: one of 256.
func namedKey(n ItemName) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(n.String())) // a hash takes all
	return fmt.Sprintf("%s%02x", namedPrefix, byte(h.Sum32()))
}

// followers are the rows that name an item, and that a rename takes along.
type followers struct {
	from, to  ItemName
	mark      uint64 // revision of namedKey before the search
	aliases   []Document
	playlists []Playlist
	bytes     int
}

// followers finds what leads to the item that is renamed, by what the whole
// cluster knows. ErrUsed when it is too much for one commit, or when a setting
// leads there that cannot follow.
func (l *Library) followers(ctx context.Context, source *Document, to ItemName) (*followers, error) {
	done, err := l.maySearch(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := l.rows.Fresh(ctx); err != nil {
		return nil, err
	}
	if err := l.checkLoop(ctx, source, to); err != nil {
		return nil, err
	}
	f := &followers{from: ItemName{source.Account, source.ID}, to: to}
	mark, err := l.rows.Get(ctx, namedKey(f.from))
	if err != nil && !errors.Is(err, blobstore.ErrNotFound) {
		return nil, fmt.Errorf("mark of second names: %w", err)
	}
	f.mark = mark.Revision
	for _, search := range []func(context.Context, *Library) error{
		f.findAliases, f.findPlaylists, f.checkFallbacks,
	} {
		if err := search(ctx, l); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// findAliases finds the second names; theirs stand for them, and stay.
func (f *followers) findAliases(ctx context.Context, l *Library) error {
	for d, err := range l.secondNames(ctx) {
		if err != nil {
			return err
		}
		// What has the new name is replaced.
		if d.AliasOf != f.from.String() || d.Account == f.to.Account && d.ID == f.to.ID {
			continue
		}
		f.aliases = append(f.aliases, d)
		if err := f.checkRoom(); err != nil {
			return err
		}
	}
	return nil
}

// findPlaylists finds the playlists that name the item itself.
func (f *followers) findPlaylists(ctx context.Context, l *Library) error {
	for row, err := range l.rows.Scan(ctx, playlistPrefix, "") {
		if err != nil {
			return fmt.Errorf("playlists: %w", err)
		}
		account, id, _ := strings.Cut(row.Key[len(playlistPrefix):], "/")
		p, err := decodePlaylist(account, id, row)
		if err != nil {
			return err
		}
		if !p.rename(f.from, f.to) {
			continue
		}
		if p.Account == f.to.Account && p.ID == f.to.ID {
			var c checks
			c.Fail("to", field.Loop, "is the name of a playlist that plays %s", f.from)
			return c.Err()
		}
		f.playlists = append(f.playlists, p)
		f.bytes += len(row.Value)
		if err := f.checkRoom(); err != nil {
			return err
		}
	}
	return nil
}

// rename lets the playlist play the item under its new name, and says whether
// it plays it at all.
func (p *Playlist) rename(from, to ItemName) (plays bool) {
	for i, name := range p.Items {
		if account, id := p.place(name); account != from.Account || id != from.ID {
			continue
		}
		plays = true
		if p.Items[i] = "/" + to.String(); to.Account == p.Account {
			p.Items[i] = to.ID
		}
	}
	return plays
}

// checkRoom returns ErrUsed for more than goes into one commit.
func (f *followers) checkRoom() error {
	if len(f.aliases)+len(f.playlists) <= renamedPlacesMax && f.bytes <= renamedBytesMax {
		return nil
	}
	var places []string
	for i := range f.aliases {
		places = append(places, f.aliases[i].Account+"/"+f.aliases[i].ID)
	}
	for i := range f.playlists {
		places = append(places, f.playlists[i].Account+"/"+f.playlists[i].ID)
	}
	return fmt.Errorf("more than %d second names and playlists, or %d KiB, would have to follow %s: %s: %w",
		renamedPlacesMax, renamedBytesMax>>10, f.from, someOf(places), ErrUsed)
}

// checkFallbacks returns ErrUsed for an item that is a fallback sound by its
// name. That is a media name, which may mean another item in every account that
// inherits it, so no other name can take its place; and the configuration's is
// not ours to write. A prompt that is found by its index is found there again.
func (f *followers) checkFallbacks(ctx context.Context, l *Library) error {
	s := &usesSearch{l: l, own: f.from, names: map[ItemName]bool{f.from: true}}
	var settings []string
	err := s.eachFallback(ctx, func(account string, by lead) {
		switch {
		case by.indexed || !f.named(by.at):
		case account == "":
			settings = append(settings, "play.fallback_sound")
		default:
			settings = append(settings, "account "+account)
		}
	})
	if err != nil || len(settings) == 0 {
		return err
	}
	return fmt.Errorf("%s is the fallback sound of %s; set the new name where that is set first: %w",
		f.from, someOf(settings), ErrUsed)
}

// named says whether a name is that of the item, perhaps with an extension, and
// no second name, which follows.
func (f *followers) named(n ItemName) bool {
	if n == f.from {
		return true
	}
	stem, _ := splitExt(n.ID)
	return n.Account == f.from.Account && stem == f.from.ID &&
		!slices.ContainsFunc(f.aliases, func(d Document) bool { return d.Account == n.Account && d.ID == n.ID })
}

// someOf names some of what is named, and says how many more there are.
func someOf(names []string) string {
	if more := len(names) - renamedShownMax; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:renamedShownMax], ", "), more)
	}
	return strings.Join(names, ", ")
}

// follow lets all that leads to an item lead to its new name.
func (c *change) follow(f *followers, at time.Time) {
	c.Expect(namedKey(f.from), f.mark)
	for i := range f.aliases {
		key := mediaKey(f.aliases[i].Account, f.aliases[i].ID)
		d, pending := &f.aliases[i], c.putting(key)
		if pending != nil { // it was the prompt that the item is now
			taken, err := decodeDocument(d.Account, d.ID, *pending)
			c.Fail(err)
			taken.Revision = d.Revision
			d = &taken
		}
		d.AliasOf, d.Modified = f.to.String(), at
		value, err := encodeDocument(d)
		c.Fail(err)
		if pending != nil {
			pending.Value = value
		} else {
			c.Put(key, value)
		}
		c.Expect(key, d.Revision)
		e := mediaEvent(d)
		e.Detail = "it stands for " + d.AliasOf
		c.event(feed.MediaChanged, e)
	}
	for i := range f.playlists {
		p := &f.playlists[i]
		p.Modified = at
		c.Expect(playlistKey(p.Account, p.ID), p.Revision)
		c.putPlaylist(p)
	}
}

// putting is the row that the change writes under a key, nil for none.
func (c *change) putting(key string) *blobstore.Row {
	for i := range c.Txn.Put {
		if c.Txn.Put[i].Key == key {
			return &c.Txn.Put[i]
		}
	}
	return nil
}

// checkLoop returns field.Errors when a second name would take the place of
// what it stands for, so that both led nowhere.
func (l *Library) checkLoop(ctx context.Context, source *Document, to ItemName) error {
	for range aliasHopsMax {
		if source == nil || source.AliasOf == "" {
			return nil
		}
		if source.AliasOf == to.String() {
			var c checks
			c.Fail("to", field.Loop, "is what %s stands for", naming.Shown(source.Account+"/"+source.ID))
			return c.Err()
		}
		account, id, _ := strings.Cut(source.AliasOf, "/")
		var err error
		if source, err = l.current(ctx, account, id); err != nil {
			return err
		}
	}
	return nil
}

// putPlaylist writes the row of a playlist.
func (c *change) putPlaylist(p *Playlist) {
	value, err := rows.Encode(playlistRow{
		p.Name, p.Items, p.Shuffle, p.Created.UnixMilli(), p.Modified.UnixMilli(),
	})
	if err != nil {
		c.Fail(fmt.Errorf("playlist %s/%s: %w", p.Account, p.ID, err))
	}
	c.Put(playlistKey(p.Account, p.ID), value)
}
