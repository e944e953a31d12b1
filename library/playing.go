package library

import (
	"context"
	"errors"

	"carillon/library/naming"
)

// Playing finds what the path of a door plays: what Mount finds under
// {account}/{id}, else under the id without its extension, else under the id
// with the extension of another format in its place. ext is the extension that
// then asks for a form, "" when the sound is wanted as it is.
func (l *Library) Playing(ctx context.Context, account, id string) (m Mount, ext string, err error) {
	if err := naming.CheckItem(account, id); err != nil {
		return Mount{}, "", err
	}
	err = l.rows.Find(ctx, func() (err error) {
		m, ext, err = l.playing(ctx, account, id)
		return err
	})
	return m, ext, err
}

func (l *Library) playing(ctx context.Context, account, id string) (Mount, string, error) {
	m, err := l.mounted(ctx, account, id)
	if !errors.Is(err, ErrNotFound) {
		return m, "", err
	}
	stem, ext := CutFormExt(id)
	if ext == "" {
		return Mount{}, "", err
	}
	for _, other := range []string{"", ".wav", ".mp3", ".ogg"} {
		if other == ext {
			continue // it was looked for
		}
		m, err := l.mounted(ctx, account, stem+other)
		if !errors.Is(err, ErrNotFound) {
			return m, ext, err
		}
	}
	return Mount{}, "", err
}
