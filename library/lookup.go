package library

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"carillon/audio"
)

const (
	// silenceName is what an empty name plays: five milliseconds of nothing,
	// because a caller must never hear an error.
	silenceName = "silence_stream://5"
	// lookupNameBytesMax bounds a name: the scheme, an account, a prompt and a
	// language are shorter, and a URL that FreeSWITCH takes is at most this.
	lookupNameBytesMax = 1000
	// urlBytesMax is below the 1,024 bytes that mod_http_cache and the
	// dialplan keep for a file name.
	urlBytesMax = 999
	// nameScanMax bounds how many recordings of one name a search looks at:
	// they come newest first, and older ones matter only when the newer are
	// stored and deleted.
	nameScanMax = 16
)

const promptScheme = "prompt://"

// Lookup finds where a media name is played. Names are
//
//	ID                            in the account, else in system, else as ACCOUNT/ID
//	/ACCOUNT/ID                   there and nowhere else
//	prompt://ACCOUNT/PROMPT[/LANG]
//	"" and what FreeSWITCH plays by itself, which pass unchanged
//
// An id is an item or the media name of a recording that is not stored yet.
func (l *Library) Lookup(ctx context.Context, r LookupRequest) (Lookup, error) {
	answer, err := l.lookup(ctx, r)
	l.metrics.lookup(&answer, err)
	return answer, err
}

func (l *Library) lookup(ctx context.Context, r LookupRequest) (Lookup, error) {
	if err := checkLookup(&r); err != nil {
		return Lookup{}, err
	}
	if r.Name == "" {
		r.Name = silenceName
	}
	if passesThrough(r.Name) {
		return Lookup{StreamURL: r.Name, FreeSWITCH: r.Name}, nil
	}
	find, err := l.finder(&r)
	if err != nil {
		return Lookup{}, err
	}
	var m Mount
	if err := l.read(ctx, r.Consistency, func() (err error) {
		m, err = find(ctx)
		return err
	}); err != nil {
		return Lookup{}, fmt.Errorf("look up %s: %w", shown(r.Name), err)
	}
	if m.Recording != nil {
		return l.recordingAnswer(m.Recording, r.Protocol), nil
	}
	return l.itemAnswer(ctx, m.Doc, r.Protocol)
}

func checkLookup(r *LookupRequest) error {
	switch {
	case len(r.Name) > lookupNameBytesMax:
		return fmt.Errorf("name of %d bytes, at most %d: %w", len(r.Name), lookupNameBytesMax, ErrBadName)
	case !plainText(r.Name):
		return fmt.Errorf("name %s holds control characters or is not UTF-8: %w", shown(r.Name), ErrBadName)
	case r.Stream != "" && r.Stream != "new" && r.Stream != "extant":
		return fmt.Errorf("stream %s, want new or extant: %w", shown(r.Stream), ErrBadRequest)
	case r.Protocol != "" && r.Protocol != "http" && r.Protocol != "shout":
		return fmt.Errorf("protocol %s, want http or shout: %w", shown(r.Protocol), ErrBadRequest)
	}
	r.Language = strings.ToLower(r.Language)
	if err := checkPrompt("", r.Language); err != nil {
		return err
	}
	if r.Account != "" {
		return CheckAccount(r.Account)
	}
	return nil
}

// passesThrough says whether FreeSWITCH plays the name without us.
func passesThrough(name string) bool {
	if name == "silence" || name[0] == '$' {
		return true
	}
	scheme, rest, found := strings.Cut(name, ":")
	switch scheme {
	case "say":
		return found
	case "http", "https", "http_cache", "tone_stream", "silence_stream", "local_stream", "shout", "shouts":
		return strings.HasPrefix(rest, "//")
	}
	return false
}

// finder parses a name into the search for it.
func (l *Library) finder(r *LookupRequest) (func(context.Context) (Mount, error), error) {
	if rest, found := strings.CutPrefix(r.Name, promptScheme); found {
		return l.promptFinder(rest, r.Language)
	}
	places, err := places(r)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (Mount, error) {
		for _, p := range places {
			m, err := l.mounted(ctx, p.account, p.id)
			if !errors.Is(err, ErrNotFound) {
				return m, err
			}
		}
		return Mount{}, ErrNotFound
	}, nil
}

type place struct{ account, id string }

// places are where a name that is no prompt may lie, in the order of search.
func places(r *LookupRequest) ([]place, error) {
	if rest, absolute := strings.CutPrefix(r.Name, "/"); absolute {
		account, id, _ := strings.Cut(rest, "/")
		return []place{{account, id}}, checkItem(account, id)
	}
	if err := CheckID(r.Name); err != nil {
		return nil, err
	}
	var found []place
	if r.Account != "" {
		found = append(found, place{r.Account, r.Name})
	}
	found = append(found, place{SystemAccount, r.Name})
	if account, id, split := strings.Cut(r.Name, "/"); split && checkItem(account, id) == nil {
		found = append(found, place{account, id})
	}
	return found, nil
}

// promptFinder searches in the caller's language first, the account's own
// prompt before the system's, and only then in the default language: a caller
// would rather hear the system in his language than the account in another.
func (l *Library) promptFinder(rest, language string) (func(context.Context) (Mount, error), error) {
	account, prompt, _ := strings.Cut(rest, "/")
	prompt, named, found := strings.Cut(prompt, "/")
	if found {
		language = strings.ToLower(named)
	}
	if err := CheckAccount(account); err != nil {
		return nil, err
	}
	if err := errors.Join(CheckID(prompt), checkPrompt(prompt, language)); err != nil {
		return nil, fmt.Errorf("prompt %s: %w: %w", shown(rest), ErrBadName, err)
	}
	accounts := []string{account}
	if account != SystemAccount {
		accounts = append(accounts, SystemAccount)
	}
	return func(ctx context.Context) (Mount, error) {
		for _, find := range []promptSearch{l.indexedPrompt, l.namedPrompt} {
			for _, keys := range [][]string{languageKeys(language), languageKeys(l.cfg.DefaultLanguage)} {
				if d, err := findPrompt(ctx, find, accounts, prompt, keys); !errors.Is(err, ErrNotFound) {
					return Mount{Doc: d}, err
				}
			}
		}
		return Mount{}, ErrNotFound
	}, nil
}

type promptSearch func(ctx context.Context, account, prompt, language string) (*Document, error)

func findPrompt(
	ctx context.Context, find promptSearch, accounts []string, prompt string, languages []string,
) (*Document, error) {
	for _, account := range accounts {
		for _, language := range languages {
			d, err := find(ctx, account, prompt, language)
			if !errors.Is(err, ErrNotFound) {
				return d, err
			}
		}
	}
	return nil, ErrNotFound
}

// languageKeys are the languages that serve one, the nearest first:
// "aa-bb_cc-dd", "aa-bb", "aa".
func languageKeys(language string) []string {
	if language == "" {
		return nil
	}
	keys := []string{language}
	for _, cut := range []string{"_", "-"} {
		last := keys[len(keys)-1]
		if short, _, found := strings.Cut(last, cut); found && short != "" {
			keys = append(keys, short)
		}
	}
	return keys
}

// indexedPrompt finds the document whose fields say that it is the prompt.
func (l *Library) indexedPrompt(ctx context.Context, account, prompt, language string) (*Document, error) {
	row, err := l.catalog.Get(ctx, promptIndexKey(account, prompt, language))
	if err != nil {
		return nil, notFound(err, "prompt", account, prompt, language)
	}
	id, err := decodeText(row.Value)
	if err != nil {
		return nil, fmt.Errorf("prompt %s/%s: %w", account, prompt, err)
	}
	return l.item(ctx, account, id)
}

// namedPrompt finds a prompt without such fields by the habit of naming it
// {language}/{prompt}.
func (l *Library) namedPrompt(ctx context.Context, account, prompt, language string) (*Document, error) {
	for _, ext := range []string{"", audio.FormatWAV.Ext(), audio.FormatMP3.Ext()} {
		d, err := l.item(ctx, account, language+"/"+prompt+ext)
		if !errors.Is(err, ErrNotFound) {
			return d, err
		}
	}
	return nil, ErrNotFound
}

func (l *Library) itemAnswer(ctx context.Context, d *Document, protocol string) (Lookup, error) {
	answer := Lookup{
		Type: d.ContentType, Account: d.Account, ID: d.ID, Revision: d.Revision,
		SHA256: d.SHA256, DurationMS: d.DurationMS,
	}
	// mod_shout decodes whatever it is sent as MP3: a WAV would be noise
	// (freeswitch-wire.md 1). So only MP3 is offered there, and the rest by
	// HTTP, which is playable, whatever was asked for.
	if protocol == "shout" && d.Audio.Format == audio.FormatMP3 {
		answer.StreamURL = l.shoutURL(d.Account, withExt(d.ID, audio.FormatMP3))
		answer.FreeSWITCH = answer.StreamURL
		return answer, nil
	}
	token, err := l.playToken(ctx, d)
	if err != nil {
		return Lookup{}, err
	}
	answer.StreamURL = l.playURL(token, d)
	// Always with its prefix: a plain http:// goes to whichever of mod_httapi
	// and mod_http_cache was loaded last (freeswitch-wire.md 3), http_cache://
	// to one of them only, which fetches once and then plays from disk. It
	// fetches whole files, hence only finite items.
	answer.FreeSWITCH = "http_cache://" + answer.StreamURL
	return answer, nil
}

// recordingAnswer leads to a recording that is live, or ended and not stored.
// FreeSWITCH gets it by mod_shout alone: http_cache waits for the end of what
// it fetches, and would play the first recording of a name for ever after.
func (l *Library) recordingAnswer(r *Recording, protocol string) Lookup {
	answer := Lookup{
		Type: r.ContentType, Account: r.Account, ID: r.Name, Revision: r.Revision,
		SHA256: r.SHA256, DurationMS: r.DurationMS, RecordingID: r.ID,
		FreeSWITCH: l.shoutURL(r.Account, r.Name),
	}
	answer.StreamURL = answer.FreeSWITCH
	if protocol != "shout" {
		answer.StreamURL = l.cfg.HTTPURL + "/media/" + escapePath(r.Account+"/"+r.Name)
	}
	return answer
}

// playURL ends in an extension that tells the type, because FreeSWITCH judges
// by it (freeswitch-wire.md 4). What stands between token and extension is for
// people; it gives way when the URL grows too long.
func (l *Library) playURL(token string, d *Document) string {
	base := l.cfg.HTTPURL + "/play/" + token + "/"
	if escaped := escapePath(withExt(d.ID, d.Audio.Format)); len(base)+len(escaped) <= urlBytesMax {
		return base + escaped
	}
	return base + "audio" + d.Audio.Format.Ext()
}

func (l *Library) shoutURL(account, id string) string {
	return "shout://" + l.cfg.ShoutHost + "/" + escapePath(account+"/"+id)
}

// escapePath escapes all that RFC 3986 does not call unreserved, slashes apart:
// FreeSWITCH itself gives a meaning to '@', '!', ',', '|', '{', '[', '$' and
// quotes in file names.
func escapePath(path string) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(path) {
		c := path[i]
		if isAlnum(c) || strings.IndexByte("-._~/", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hexDigits[c>>4])
		b.WriteByte(hexDigits[c&15])
	}
	return b.String()
}
