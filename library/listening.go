package library

import (
	"context"
	"fmt"
	"time"

	"carillon/library/naming"
)

// Listening is somebody who wants to hear what is not signed for: an item, a
// recording or a playlist under its name.
type Listening struct {
	Account, ID string
	// Network: the address is one of streams.allow.
	Network bool
	// User and Password of Basic authentication, if Basic.
	User, Password string
	Basic          bool
	// Token is one of a lookup, "" for none.
	Token string
}

// MayListen says whether somebody may. By default those may whose network may;
// an account whose settings say so plays only to who has a token of a lookup
// (403 otherwise, ErrForbidden), or its user and password (401, ErrUnauthorized),
// whatever the network.
func (l *Library) MayListen(ctx context.Context, w Listening) error {
	if err := naming.CheckAccount(w.Account); err != nil {
		return err
	}
	if w.Token != "" {
		return l.signed(ctx, w)
	}
	s, err := l.settings(ctx, w.Account)
	if err != nil {
		return err
	}
	switch s.ListenerAuth.Mode {
	case ListenBasic:
		if w.Basic && s.ListenerAuth.Check(w.User, w.Password) {
			return nil
		}
		return fmt.Errorf("listen to %s: %w", w.Account, ErrUnauthorized)
	case ListenToken:
		return fmt.Errorf("%s plays by signed URL only: %w", w.Account, ErrForbidden)
	}
	if !w.Network {
		return fmt.Errorf("listen to %s from this address: %w", w.Account, ErrForbidden)
	}
	return nil
}

// signed says whether a token is good for what is asked for. It opens a name,
// as a stream does; who needs the very sound plays by the URL of the lookup.
func (l *Library) signed(ctx context.Context, w Listening) error {
	t, err := l.tokens.Parse(ctx, w.Token)
	if err != nil {
		return err
	}
	if t.Expired(time.Now()) {
		return fmt.Errorf("listen to %s/%s: %w", t.Account, t.ID, ErrExpired)
	}
	stem, _ := CutFormExt(w.ID)
	own, _ := CutFormExt(t.ID)
	if t.Account != w.Account || t.ID != w.ID && t.ID != stem && own != stem {
		return fmt.Errorf("token is of another item: %w", ErrBadToken)
	}
	return nil
}
