package library

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// usageAge is how long the count of an account's media is believed; what
	// this node itself adds is counted at once. Within it, n nodes may let in n
	// times what is left of a quota: it guards a disk, not a bill.
	usageAge = 10 * time.Second
	// usagePart bounds what counting may take of a core, for accounts of
	// millions: at most one part in so many.
	usagePart = 20
	// usageAccountsMax bounds the accounts whose count is kept.
	usageAccountsMax = 10_000
)

// Usage is what an account stores.
type Usage struct {
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

// Usage counts an account's media. It reads a row per item.
func (l *Library) Usage(ctx context.Context, account string) (AccountUsage, error) {
	if err := CheckAccount(account); err != nil {
		return AccountUsage{}, err
	}
	if err := l.catchUp(ctx); err != nil {
		return AccountUsage{}, err
	}
	s, err := l.settings(ctx, account)
	if err != nil {
		return AccountUsage{}, err
	}
	u := AccountUsage{Account: account, Quota: s.Quota}
	if u.Usage, err = l.count(ctx, mediaKey(account, "")); err == nil {
		u.Deleted, err = l.count(ctx, deletedPrefix+account+"/")
	}
	return u, err
}

// count sums up the documents below a prefix without decoding them.
func (l *Library) count(ctx context.Context, prefix string) (Usage, error) {
	var u Usage
	for row, err := range l.catalog.Scan(ctx, prefix, "") {
		if err != nil {
			return Usage{}, fmt.Errorf("count media: %w", err)
		}
		u.Items++
		u.Bytes += int64(row.Weight)
	}
	return u, nil
}

// checkQuota returns ErrQuota when an account may not store so much more.
func (l *Library) checkQuota(ctx context.Context, account string, bytes, items int64) error {
	s, err := l.settings(ctx, account)
	if err != nil || s.Quota == (Quota{}) || items == 0 && bytes <= 0 {
		return err
	}
	u, err := l.usage.get(ctx, l, account)
	if err != nil {
		return err
	}
	switch q := s.Quota; {
	case q.Items > 0 && u.Items+items > q.Items:
		return fmt.Errorf("account %s holds %d of %d items: %w", account, u.Items, q.Items, ErrQuota)
	case q.Bytes > 0 && u.Bytes+bytes > q.Bytes:
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
	if before == nil {
		return size, 1
	}
	return size - before.Size, 0
}

// usageCounts keeps counts of accounts with a quota.
type usageCounts struct {
	mu       sync.Mutex // guards the map
	accounts map[string]*usageCount
}

type usageCount struct {
	mu    sync.Mutex // guards all below; held while counting, so that one does it
	usage Usage
	until time.Time
}

func (c *usageCounts) get(ctx context.Context, l *Library, account string) (Usage, error) {
	c.mu.Lock()
	if c.accounts == nil || len(c.accounts) >= usageAccountsMax {
		c.accounts = make(map[string]*usageCount)
	}
	n := c.accounts[account]
	if n == nil {
		n = new(usageCount)
		c.accounts[account] = n
	}
	c.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	began := time.Now()
	if began.Before(n.until) {
		return n.usage, nil
	}
	u, err := l.count(ctx, mediaKey(account, ""))
	if err == nil {
		n.usage, n.until = u, began.Add(max(usageAge, usagePart*time.Since(began)))
	}
	return u, err
}

// add counts what this node has just stored.
func (c *usageCounts) add(account string, bytes, items int64) {
	c.mu.Lock()
	n := c.accounts[account]
	c.mu.Unlock()
	if n == nil {
		return
	}
	n.mu.Lock()
	n.usage.Bytes += bytes
	n.usage.Items += items
	n.mu.Unlock()
}
