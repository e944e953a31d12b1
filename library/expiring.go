package library

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"time"

	"carillon/library/naming"
	"carillon/library/rows"
)

// ExpiryQuery asks what an account's retention would delete.
type ExpiryQuery struct {
	// RetentionSeconds to try; nil: that of the account's settings.
	RetentionSeconds map[Class]int64 `json:"retention_seconds"`
	// At is when; zero: now.
	At time.Time `json:"at"`
	// Limit of the items that are listed; all are counted. 0: PageLimitDefault.
	Limit int `json:"limit"`
}

// Expiry is what would be deleted.
type Expiry struct {
	Account string          `json:"account"`
	At      time.Time       `json:"at"`
	Classes map[Class]Usage `json:"classes"`
	Usage
	// Sample are the first items, in the order of their ids, then recordings that
	// were never stored, under their names.
	Sample []Document `json:"sample"`
}

// Expiring is what would be deleted; it deletes nothing. It reads all documents
// of the account.
func (l *Library) Expiring(ctx context.Context, account string, q ExpiryQuery) (Expiry, error) {
	if err := naming.CheckAccount(account); err != nil {
		return Expiry{}, err
	}
	limit, err := rows.PageLimit(q.Limit)
	if err != nil {
		return Expiry{}, err
	}
	var c checks
	c.retention(q.RetentionSeconds)
	if err := c.Err(); err != nil {
		return Expiry{}, err
	}
	if err := l.rows.CatchUp(ctx); err != nil {
		return Expiry{}, err
	}
	if q.RetentionSeconds == nil {
		s, err := l.settings(ctx, account)
		if err != nil {
			return Expiry{}, err
		}
		q.RetentionSeconds = s.RetentionSeconds
	}
	x := Expiry{
		Account: account, At: cmp.Or(q.At, time.Now().UTC().Truncate(time.Millisecond)),
		Classes: make(map[Class]Usage), Sample: []Document{},
	}
	for d, err := range l.expiring(ctx, account, q.RetentionSeconds, x.At, "") {
		if err != nil {
			return Expiry{}, err
		}
		x.add(&d, limit)
	}
	keep := time.Duration(q.RetentionSeconds[ClassRecording]) * time.Second
	if keep <= 0 {
		return x, nil
	}
	for s, err := range l.endedBefore(ctx, account, x.At.Add(-keep), "") {
		if err != nil {
			return Expiry{}, err
		}
		if s.checkKept() == nil {
			d := s.document(account, s.Name)
			d.Class, d.Created, d.Modified, d.Stored = ClassRecording, s.Created, *s.Ended, *s.Ended
			x.add(&d, limit)
		}
	}
	return x, nil
}

func (x *Expiry) add(d *Document, limit int) {
	u := x.Classes[d.Class]
	u.Items, u.Bytes = u.Items+1, u.Bytes+d.Size
	x.Classes[d.Class] = u
	x.Items, x.Bytes = x.Items+1, x.Bytes+d.Size
	if len(x.Sample) < limit {
		x.Sample = append(x.Sample, *d)
	}
}

// expiring yields an account's documents whose retention is over at a time,
// those behind a key.
func (l *Library) expiring(
	ctx context.Context, account string, retention map[Class]int64, at time.Time, after string,
) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		if len(retention) == 0 {
			return
		}
		base := mediaKey(account, "")
		for row, err := range l.rows.Scan(ctx, base, after) {
			if err != nil {
				yield(Document{}, fmt.Errorf("scan documents: %w", err))
				return
			}
			d, err := decodeDocument(account, row.Key[len(base):], row)
			if err != nil {
				yield(Document{}, err)
				return
			}
			if until, ends := expiryOf(&d, retention); ends && !until.After(at) && !yield(d, nil) {
				return
			}
		}
	}
}
