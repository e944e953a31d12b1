package library

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"carillon/audio"
	"carillon/library/rows"
)

// findPrompt searches in the caller's language first, the account's own prompt
// before those of the accounts above it and the system's, and only then in the
// account's and at last in the system's default language: a caller would
// rather hear the system in his language than the account in another.
//
// The caller's language is that of the name, else of the request, else of the
// request's account.
func (l *Library) findPrompt(ctx context.Context, p *place, r *LookupRequest) (*Document, error) {
	chain, err := l.ancestry(ctx, p.account)
	if err != nil {
		return nil, err
	}
	own := languageOf(chain)
	wanted := cmp.Or(p.language, r.Language)
	if wanted == "" && r.Account != "" && r.Account != p.account {
		callers, err := l.ancestry(ctx, r.Account)
		if err != nil {
			return nil, err
		}
		wanted = languageOf(callers)
	}
	if chain[len(chain)-1].Account != SystemAccount {
		chain = append(chain, &AccountSettings{Account: SystemAccount})
	}
	tried := make([]string, 0, 6)
	for _, language := range []string{wanted, own, l.cfg.DefaultLanguage} {
		keys := slices.DeleteFunc(languageKeys(language), func(k string) bool { return slices.Contains(tried, k) })
		tried = append(tried, keys...)
		for _, s := range chain {
			for _, key := range keys {
				d, err := l.prompt(ctx, s.Account, p.prompt, key)
				if !errors.Is(err, ErrNotFound) {
					return d, err
				}
			}
		}
	}
	return nil, fmt.Errorf("prompt %q of %q: %w", p.prompt, p.account, ErrNotFound)
}

// languageOf is the nearest account's language that has one.
func languageOf(chain []*AccountSettings) string {
	for _, s := range chain {
		if s.Language != "" {
			return s.Language
		}
	}
	return ""
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

// prompt is the account's own prompt in exactly that language: the document
// whose fields say so, or else one that is named so.
func (l *Library) prompt(ctx context.Context, account, prompt, language string) (*Document, error) {
	d, err := l.indexedPrompt(ctx, account, prompt, language)
	if !errors.Is(err, ErrNotFound) {
		return d, err
	}
	return l.namedPrompt(ctx, account, prompt, language)
}

// indexedPrompt finds the document whose fields say that it is the prompt.
func (l *Library) indexedPrompt(ctx context.Context, account, prompt, language string) (*Document, error) {
	row, err := l.rows.Get(ctx, promptIndexKey(account, prompt, language))
	if err != nil {
		return nil, rows.NotFound(err, "prompt", account, prompt, language)
	}
	id, err := rows.DecodeText(row.Value)
	if err != nil {
		return nil, fmt.Errorf("prompt %s/%s: %w", account, prompt, err)
	}
	return playable(l.item(ctx, account, id))
}

// namedPrompt finds a prompt without such fields by the habit of naming it
// {language}/{prompt}.
func (l *Library) namedPrompt(ctx context.Context, account, prompt, language string) (*Document, error) {
	for _, ext := range []string{"", audio.FormatWAV.Ext(), audio.FormatMP3.Ext()} {
		d, err := playable(l.item(ctx, account, language+"/"+prompt+ext))
		if !errors.Is(err, ErrNotFound) {
			return d, err
		}
	}
	return nil, ErrNotFound
}

// playable turns a document that lookups must not find into ErrNotFound.
func playable(d *Document, err error) (*Document, error) {
	if err == nil && !d.streamable() {
		return nil, fmt.Errorf("item %s/%s is not streamable: %w", d.Account, d.ID, ErrNotFound)
	}
	return d, err
}
