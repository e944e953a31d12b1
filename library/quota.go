package library

import (
	"context"
	"fmt"

	"carillon/library/naming"
)

// Usage is what an account stores.
type Usage struct {
	// Items with a sound: second names do not count.
	Items int64 `json:"items"`
	Bytes int64 `json:"bytes"` // a copy counts as if it had bytes of its own
}

// AccountUsage is what an account stores, and what of it was deleted and is
// kept for a while.
type AccountUsage struct {
	Account string `json:"account"`
	Usage
	Deleted Usage `json:"deleted"`
	Quota   Quota `json:"quota"`
}

// Usage says what an account stores. It reads no documents: the catalog keeps
// count.
func (l *Library) Usage(ctx context.Context, account string) (AccountUsage, error) {
	if err := naming.CheckAccount(account); err != nil {
		return AccountUsage{}, err
	}
	if err := l.rows.CatchUp(ctx); err != nil {
		return AccountUsage{}, err
	}
	s, err := l.settings(ctx, account)
	if err != nil {
		return AccountUsage{}, err
	}
	u := AccountUsage{Account: account, Quota: s.Quota}
	if u.Usage, err = l.tallied(ctx, mediaKey(account, "")); err == nil {
		u.Deleted, err = l.tallied(ctx, deletedPrefix+account+"/")
	}
	return u, err
}

// tallied is what the documents of a class of rows come to.
func (l *Library) tallied(ctx context.Context, class string) (Usage, error) {
	t, err := l.rows.Tally(ctx, class)
	if err != nil {
		return Usage{}, fmt.Errorf("count media: %w", err)
	}
	return Usage{int64(t.Items), int64(t.Bytes)}, nil
}

// checkQuota returns ErrQuota when an account may not store so much more. It
// counts what this node knows: writers on n nodes at one moment may let in a
// little more, each what the others are about to commit. A quota guards a disk
// and is no bill.
func (l *Library) checkQuota(ctx context.Context, account string, bytes, items int64) error {
	s, err := l.settings(ctx, account)
	if err != nil || s.Quota == (Quota{}) || items <= 0 && bytes <= 0 {
		return err
	}
	u, err := l.tallied(ctx, mediaKey(account, ""))
	if err != nil {
		return err
	}
	switch q := s.Quota; {
	case q.Items > 0 && items > 0 && u.Items+items > q.Items:
		return fmt.Errorf("account %s holds %d of %d items: %w", account, u.Items, q.Items, ErrQuota)
	case q.Bytes > 0 && bytes > 0 && u.Bytes+bytes > q.Bytes:
		return fmt.Errorf("account %s holds %d of %d bytes, %d more are too many: %w",
			account, u.Bytes, q.Bytes, bytes, ErrQuota)
	}
	return nil
}

// checkRoom returns ErrQuota when an account is full already. It is asked
// before a caller is recorded; what was recorded is stored in any case.
func (l *Library) checkRoom(ctx context.Context, account string) error {
	return l.checkQuota(ctx, account, 1, 1)
}

// grown is what replacing before by a sound of that size adds to an account.
func grown(before *Document, size int64) (bytes, items int64) {
	if before == nil || before.AliasOf != "" {
		return size, 1
	}
	return size - before.Size, 0
}
