package library

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"carillon/library/naming"
)

const (
	// UsesMax bounds what one answer names: who sees so many does not delete.
	UsesMax = 1000
	// usesAtOnce bounds the searches of one node: each reads every document of
	// the catalog, some seconds of a core for a million of them, because
	// nothing but this question needs an index of them.
	usesAtOnce = 1
)

// UseKind says how an item is used.
type UseKind string

// The kinds of uses.
const (
	UseAlias    UseKind = "alias"    // Account/ID is a second name of it
	UsePlaylist UseKind = "playlist" // the playlist Account/ID plays it
	UsePrompt   UseKind = "prompt"   // it is the prompt ID of Account in Language
	// UseFallback: it is heard in Account instead of what is not found, by the
	// settings of that account or of one above it. Without an account: by
	// play.fallback_sound.
	UseFallback UseKind = "fallback_sound"
)

// Use is one of the places that lead to an item.
type Use struct {
	Kind     UseKind `json:"kind"`
	Account  string  `json:"account,omitempty"`
	ID       string  `json:"id,omitempty"`
	Language string  `json:"language,omitempty"`
	// By is the second name, Account/ID, that is used, "" for the item's own.
	By string `json:"by,omitempty"`
}

// Uses are the places that lead to an item: second names first, and those by
// which another uses it are among them.
type Uses struct {
	Account string `json:"account"`
	ID      string `json:"id"`
	// Exists is false for a name at which nothing is: those are the places that
	// its deletion has left behind.
	Exists bool  `json:"exists"`
	Items  []Use `json:"items"`
	More   bool  `json:"more,omitempty"` // there are more than UsesMax
}

// Uses finds what would miss {account}/{id}, an item, a second name or a
// playlist, by what this node knows; what only a dialplan knows it cannot tell.
// ErrNotFound for a name at which nothing is and that nothing uses.
func (l *Library) Uses(ctx context.Context, account, id string) (Uses, error) {
	if err := naming.CheckItem(account, id); err != nil {
		return Uses{}, err
	}
	done, err := l.maySearch(ctx)
	if err != nil {
		return Uses{}, err
	}
	defer done()
	if err := l.rows.CatchUp(ctx); err != nil {
		return Uses{}, err
	}
	own := ItemName{account, id}
	s := &usesSearch{l: l, own: own, names: map[ItemName]bool{own: true}}
	s.found = Uses{Account: account, ID: id, Items: []Use{}}
	for _, search := range []func(context.Context) error{s.prompt, s.aliases, s.playlists, s.fallbacks} {
		if err := search(ctx); err != nil {
			return Uses{}, fmt.Errorf("uses of %s: %w", own, err)
		}
	}
	if !s.found.Exists && len(s.found.Items) == 0 {
		return Uses{}, fmt.Errorf("item %s: %w", own, ErrNotFound)
	}
	return s.found, nil
}

// maySearch waits for a place among the searches of this node.
func (l *Library) maySearch(ctx context.Context) (done func(), err error) {
	select {
	case l.searches <- struct{}{}:
		return func() { <-l.searches }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// secondNames yields all second names of the catalog. It ends after the first
// error.
func (l *Library) secondNames(ctx context.Context) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		for row, err := range l.rows.Scan(ctx, mediaPrefix, "") {
			if err == nil && !bytes.Contains(row.Value, []byte(`"al":"`)) {
				continue // decoding is what costs
			}
			var d Document
			if err == nil {
				account, id, _ := strings.Cut(row.Key[len(mediaPrefix):], "/")
				d, err = decodeDocument(account, id, row)
			}
			if err == nil && d.AliasOf == "" {
				continue // its metadata have such a key
			}
			if !yield(d, err) || err != nil {
				return
			}
		}
	}
}

// usesSearch is one search for the uses of own.
type usesSearch struct {
	l     *Library
	own   ItemName
	names map[ItemName]bool // own and its second names
	found Uses
}

func (s *usesSearch) add(u Use, by ItemName) {
	if len(s.found.Items) >= UsesMax {
		s.found.More = true
		return
	}
	if by != s.own {
		u.By = by.String()
	}
	s.found.Items = append(s.found.Items, u)
}

// prompt looks whether it exists, and is the prompt that it says it is.
func (s *usesSearch) prompt(ctx context.Context) error {
	d, err := s.l.current(ctx, s.own.Account, s.own.ID)
	if err != nil {
		return err
	}
	if d == nil {
		_, err := s.l.playlist(ctx, s.own.Account, s.own.ID)
		s.found.Exists = err == nil
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	}
	s.found.Exists = true
	if d.Prompt != "" {
		s.add(Use{Kind: UsePrompt, Account: d.Account, ID: d.Prompt, Language: d.Language}, s.own)
	}
	return nil
}

// aliases finds the second names, and theirs: a chain comes about when an item
// is replaced by a second name.
func (s *usesSearch) aliases(ctx context.Context) error {
	for round := []ItemName{s.own}; len(round) > 0; {
		var next []ItemName
		for d, err := range s.l.secondNames(ctx) {
			if err != nil {
				return err
			}
			i := slices.IndexFunc(round, func(n ItemName) bool { return n.String() == d.AliasOf })
			name := ItemName{d.Account, d.ID}
			if i < 0 || s.names[name] {
				continue
			}
			s.add(Use{Kind: UseAlias, Account: d.Account, ID: d.ID}, round[i])
			if !s.found.More { // nobody reads on, so nobody looks on
				s.names[name], next = true, append(next, name)
			}
		}
		round = next
	}
	return nil
}

func (s *usesSearch) playlists(ctx context.Context) error {
	for row, err := range s.l.rows.Scan(ctx, playlistPrefix, "") {
		if err != nil {
			return err
		}
		account, id, _ := strings.Cut(row.Key[len(playlistPrefix):], "/")
		p, err := decodePlaylist(account, id, row)
		if err != nil {
			return err
		}
		for _, item := range p.Items {
			var by ItemName
			if by.Account, by.ID = p.place(item); s.names[by] {
				s.add(Use{Kind: UsePlaylist, Account: account, ID: id}, by)
				break
			}
		}
	}
	return nil
}

// fallbacks finds the accounts that hear it instead of what is not found.
func (s *usesSearch) fallbacks(ctx context.Context) error {
	return s.eachFallback(ctx, func(account string, by lead) {
		s.add(Use{Kind: UseFallback, Account: account}, by.name)
	})
}

// eachFallback finds the accounts, "" for the configuration, whose fallback
// sound it is. That is a media name: where it leads depends on the account.
func (s *usesSearch) eachFallback(ctx context.Context, found func(account string, by lead)) error {
	asked := map[string]string{"": s.l.cfg.FallbackSound} // account → name
	for name := range s.names {                           // such an account may inherit one
		chain, err := s.l.ancestry(ctx, name.Account)
		if err != nil {
			return err
		}
		asked[name.Account] = s.l.cfg.FallbackSound
		if i := slices.IndexFunc(chain, func(a *AccountSettings) bool { return a.Fallback != "" }); i >= 0 {
			asked[name.Account] = chain[i].Fallback
		}
	}
	for row, err := range s.l.rows.Scan(ctx, accountPrefix, "") {
		if err != nil {
			return err
		}
		account := strings.TrimSuffix(row.Key[len(accountPrefix):], "/")
		settings, err := decodeAccount(account, row)
		if err != nil {
			return err
		}
		if settings.Fallback != "" {
			asked[account] = settings.Fallback
		}
	}
	for _, account := range slices.Sorted(maps.Keys(asked)) {
		by, leads, err := s.leads(ctx, asked[account], account)
		if err != nil {
			return err
		}
		if leads {
			found(account, by)
		}
	}
	return nil
}

// lead is how a media name leads to what is searched for.
type lead struct {
	name    ItemName // by which of its names
	at      ItemName // where it was looked for, perhaps in another form
	indexed bool     // as the prompt that it says it is
}

// leads says whether a media name, or a part of a macro, leads to what is
// searched for when it is looked up for an account, and by which of its names.
func (s *usesSearch) leads(ctx context.Context, name, account string) (by lead, ok bool, err error) {
	parts := []string{name}
	if macro, is := strings.CutPrefix(name, macroScheme); is {
		parts = strings.Split(macro, "!")
	}
	for _, part := range parts {
		r := &LookupRequest{Name: part, Account: account}
		if part == "" || passesThrough(part) || checkLookup(r) != nil {
			continue
		}
		where, err := places(r)
		if err != nil {
			continue // it leads nowhere
		}
		for i := range where {
			m, err := s.l.found(ctx, where[i:i+1], r)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				return lead{}, false, err
			}
			at := ItemName{where[i].account, where[i].id}
			if where[i].prompt == "" && s.names[at] {
				return lead{name: at, at: at}, true, nil
			}
			if m.Doc != nil && s.names[ItemName{m.Doc.Account, m.Doc.ID}] {
				by = lead{name: ItemName{m.Doc.Account, m.Doc.ID}, at: at}
				if where[i].prompt != "" {
					by.at, by.indexed = by.name, m.Doc.Prompt == where[i].prompt
				}
				return by, true, nil
			}
			break // what is found first counts
		}
	}
	return lead{}, false, nil
}
