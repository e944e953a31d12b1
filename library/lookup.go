package library

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"carillon/library/field"
	"carillon/library/naming"
)

const (
	// silenceName is what an empty name plays: five milliseconds of nothing,
	// because a caller must never hear an error.
	silenceName = "silence_stream://5"
	// lookupNameBytesMax bounds a name: the scheme, an account, a prompt and a
	// language are shorter, and a URL that FreeSWITCH takes is at most this.
	lookupNameBytesMax = 1000
	// macroBytesMax bounds a macro, and macroPartsMax its parts: a spoken number
	// or date has a dozen.
	macroBytesMax = 8 << 10
	macroPartsMax = 32
	// LookupBatchMax bounds the lookups of one LookupAll: a menu with all that it
	// may say has some twenty.
	LookupBatchMax = 100
)

// Lookup finds where a media name is played. Names are
//
//	ID                              in the account, else in system, else as ACCOUNT/ID, else the prompt ID
//	/ACCOUNT/ID[/ATTACHMENT]        there and nowhere else; an item has one sound, whatever it is called
//	/system_media/LANG/PROMPT       the system's prompt
//	prompt://ACCOUNT/PROMPT[/LANG]  of the account, those above it, or system
//	tts://ID                        the item tts/ID of the account or of system
//	file_string://A!B!C             each of them
//	"" and what FreeSWITCH plays by itself, which pass unchanged
//
// An id is an item or the media name of a recording that is not stored yet.
// Where nothing is found, a fallback sound is, if there is one.
func (l *Library) Lookup(ctx context.Context, r LookupRequest) (Lookup, error) {
	answer, err := l.lookup(ctx, &r)
	l.metrics.lookup(&answer, err)
	return answer, err
}

// LookupResult is the answer to one of many lookups: Err or Lookup counts.
type LookupResult struct {
	Lookup Lookup
	Err    error
}

// LookupAll answers many at once, in their order: what is not known here is
// asked of the leader once for all. ErrBadRequest for more than LookupBatchMax.
func (l *Library) LookupAll(ctx context.Context, rs []LookupRequest) ([]LookupResult, error) {
	if len(rs) > LookupBatchMax {
		return nil, field.Errors{"lookups": {Code: field.TooLong, Message: fmt.Sprintf("has %d entries, at most %d",
			len(rs), LookupBatchMax)}}
	}
	all := make([]LookupResult, len(rs))
	caughtUp := false
	for i := range rs {
		r := rs[i]
		if r.Consistency == Linearizable || caughtUp {
			if !caughtUp {
				if err := l.rows.Fresh(ctx); err != nil {
					return nil, err
				}
				caughtUp = true
			}
			r.Consistency = Local
		}
		if r.Consistency == "" || r.Consistency == Fresh {
			first := r
			first.Consistency = Local
			all[i].Lookup, all[i].Err = l.lookupExact(ctx, &first)
			if !errors.Is(all[i].Err, ErrNotFound) {
				l.metrics.lookup(&all[i].Lookup, all[i].Err)
				continue
			}
			if err := l.rows.Fresh(ctx); err != nil {
				return nil, err
			}
			caughtUp, r.Consistency = true, Local
		}
		all[i].Lookup, all[i].Err = l.Lookup(ctx, r)
	}
	return all, nil
}

func (l *Library) lookup(ctx context.Context, r *LookupRequest) (Lookup, error) {
	answer, err := l.lookupExact(ctx, r)
	if !errors.Is(err, ErrNotFound) {
		return answer, err
	}
	return l.fallback(ctx, r, err)
}

// lookupExact is lookup without a fallback sound.
func (l *Library) lookupExact(ctx context.Context, r *LookupRequest) (Lookup, error) {
	if err := checkLookup(r); err != nil {
		return Lookup{}, err
	}
	if r.Name == "" {
		r.Name = silenceName
	}
	if parts, macro := strings.CutPrefix(r.Name, macroScheme); macro {
		return l.macro(ctx, r, parts)
	}
	if passesThrough(r.Name) {
		return Lookup{StreamURL: r.Name, FreeSWITCH: r.Name}, nil
	}
	asked, applied := askedName{r.Name, r.Account, r.Language}, l.rows.Applied()
	if r.Consistency != Linearizable {
		if d, ok := l.names.current(asked, applied); ok {
			return l.mountAnswer(ctx, Mount{Doc: d}, r)
		}
	}
	where, err := places(r)
	if err != nil {
		return Lookup{}, err
	}
	var m Mount
	if err := l.read(ctx, r.Consistency, func() (err error) {
		m, err = l.found(ctx, where, r)
		return err
	}); err != nil {
		if strings.HasPrefix(r.Name, ttsScheme) {
			err = fmt.Errorf("speech is not synthesised here, but played if it was stored as %s: %w",
				ttsFolder+"ID", err)
		}
		return Lookup{}, fmt.Errorf("look up %s: %w", naming.Shown(r.Name), err)
	}
	if m.Doc != nil {
		l.names.put(asked, applied, m.Doc)
	}
	return l.mountAnswer(ctx, m, r)
}

// mountAnswer leads to what was found.
func (l *Library) mountAnswer(ctx context.Context, m Mount, r *LookupRequest) (Lookup, error) {
	switch {
	case continuous(m, r):
		return l.stationAnswer(ctx, m, r)
	case m.Recording != nil:
		return l.recordingAnswer(m.Recording, r), nil
	}
	return l.itemAnswer(ctx, m.Doc, r)
}

// askedName is all that decides which item a lookup finds.
type askedName struct{ name, account, language string }

// found is the first of the places that holds something.
func (l *Library) found(ctx context.Context, where []place, r *LookupRequest) (Mount, error) {
	for i := range where {
		p := &where[i]
		var m Mount
		var err error
		if p.prompt != "" {
			m.Doc, err = l.findPrompt(ctx, p, r)
		} else if m, err = l.mounted(ctx, p.account, p.id); err == nil && m.Doc != nil {
			m.Doc, err = playable(m.Doc, nil)
		} else {
			err = l.unlessSpooled(err, p.account, p.id)
		}
		if !errors.Is(err, ErrNotFound) {
			return m, err
		}
	}
	return Mount{}, ErrNotFound
}

// macro resolves the parts of a macro one by one. One that is not found makes
// the whole not found, unless a fallback sound stands in for it: a sentence
// with a hole says something else.
func (l *Library) macro(ctx context.Context, r *LookupRequest, text string) (Lookup, error) {
	names := strings.Split(text, "!")
	if len(names) > macroPartsMax {
		return Lookup{}, fmt.Errorf("macro of %d parts, at most %d: %w", len(names), macroPartsMax, ErrBadName)
	}
	for _, name := range names {
		if strings.HasPrefix(name, macroScheme) {
			return Lookup{}, fmt.Errorf("macro %s within a macro: %w", naming.Shown(name), ErrBadName)
		}
	}
	answer := Lookup{Parts: make([]Lookup, len(names))}
	strs := make([]string, len(names))
	for i, name := range names {
		part := *r
		part.Name = name
		found, err := l.lookup(ctx, &part)
		if err != nil {
			return Lookup{}, fmt.Errorf("part %d of a macro: %w", i+1, err)
		}
		answer.Parts[i], strs[i] = found, found.FreeSWITCH
		answer.DurationMS += found.DurationMS
		answer.Fallback = answer.Fallback || found.Fallback
	}
	answer.FreeSWITCH = macroScheme + strings.Join(strs, "!")
	answer.StreamURL = answer.FreeSWITCH
	return answer, nil
}

// fallback looks up the sound that is played instead of what was not found: of
// the account, of one above it, or of the configuration. Without one the answer
// is cause.
func (l *Library) fallback(ctx context.Context, r *LookupRequest, cause error) (Lookup, error) {
	account := r.Account
	if account == "" {
		if where, err := places(r); err == nil && len(where) > 0 {
			account = where[0].account
		}
	}
	name := l.cfg.FallbackSound
	if account != "" {
		chain, err := l.ancestry(ctx, account)
		if err != nil {
			return Lookup{}, err
		}
		for _, s := range chain {
			if s.Fallback != "" {
				name = s.Fallback
				break
			}
		}
	}
	if name == "" || strings.HasPrefix(r.Name, macroScheme) {
		return Lookup{}, cause
	}
	instead := *r
	instead.Name, instead.Account = name, account
	answer, err := l.lookupExact(ctx, &instead)
	if err != nil {
		return Lookup{}, cause // which is what the caller asked about
	}
	answer.Fallback = true
	return answer, nil
}

func checkLookup(r *LookupRequest) error {
	most := lookupNameBytesMax
	if strings.HasPrefix(r.Name, macroScheme) {
		most = macroBytesMax
	}
	switch {
	case len(r.Name) > most:
		return fmt.Errorf("name of %d bytes, at most %d: %w", len(r.Name), most, ErrBadName)
	case !naming.IsPlain(r.Name):
		return fmt.Errorf("name %s holds control characters or is not UTF-8: %w", naming.Shown(r.Name), ErrBadName)
	}
	var c checks
	c.OneOf("stream", r.Stream, "new", "extant")
	c.OneOf("protocol", r.Protocol, "http", "shout")
	c.OneOf("player", string(r.Player), string(PlayerShout), string(PlayerShellStream), string(PlayerHTTPCache),
		string(PlayerHTTAPI), string(PlayerPlain))
	r.Language = strings.ToLower(r.Language)
	c.language("language", r.Language)
	if err := c.Err(); err != nil {
		return err
	}
	if r.Account == "" {
		return nil
	}
	if naming.CheckAccount(r.Account) != nil { // Kazoo's name of its database, perhaps escaped
		for _, name := range spellings(r.Account) {
			if account, _, found := cutDatabase(name + "/"); found {
				r.Account = account
			}
		}
	}
	if r.Account == systemMedia {
		r.Account = SystemAccount
	}
	return naming.CheckAccount(r.Account)
}
