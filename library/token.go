package library

import (
	"context"
	"fmt"
	"time"

	"carillon/library/playtoken"
)

func (l *Library) playToken(ctx context.Context, d *Document) (string, error) {
	return l.tokens.Sign(ctx, playtoken.Token{
		Account: d.Account, ID: d.ID, Pin: playtoken.PinOf(d.Blob),
		Expiry: playtoken.Expiry(time.Now(), l.cfg.PlayTTL),
	})
}

// OpenPlay checks a /play token and returns the document whose sound it pins:
// ErrBadToken, ErrExpired, ErrNotFound, or ErrGone when other bytes have taken
// the item's place.
func (l *Library) OpenPlay(ctx context.Context, token string) (Document, error) {
	t, err := l.tokens.Parse(ctx, token)
	if err == nil && t.Stream {
		err = fmt.Errorf("token is of a continuous stream: %w", ErrBadToken)
	}
	if err != nil {
		return Document{}, err
	}
	if t.Expired(time.Now()) {
		return Document{}, fmt.Errorf("play %s/%s: %w", t.Account, t.ID, ErrExpired)
	}
	d, err := l.Get(ctx, t.Account, t.ID, Fresh)
	if err != nil || playtoken.PinOf(d.Blob) == t.Pin {
		return d, err
	}
	// The lookup may have been answered by a node that is ahead of this one.
	if d, err = l.Get(ctx, t.Account, t.ID, Linearizable); err != nil {
		return Document{}, err
	}
	if playtoken.PinOf(d.Blob) != t.Pin {
		return Document{}, fmt.Errorf("play %s/%s: %w", t.Account, t.ID, ErrGone)
	}
	return d, nil
}

// OpenStream checks a /play token and says which continuous stream it is of;
// not ok: it is of an item, see OpenPlay. ErrBadToken and ErrExpired.
func (l *Library) OpenStream(ctx context.Context, token string) (account, id string, ok bool, err error) {
	t, err := l.tokens.Parse(ctx, token)
	if err != nil || !t.Stream {
		return "", "", false, err
	}
	if t.Expired(time.Now()) {
		return "", "", false, fmt.Errorf("stream %s/%s: %w", t.Account, t.ID, ErrExpired)
	}
	return t.Account, t.ID, true, nil
}
