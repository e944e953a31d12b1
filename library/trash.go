package library

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"carillon/blobstore"
	"carillon/library/feed"
	"carillon/library/naming"
	"carillon/library/rows"
)

// purgeBatch is how many deleted rows one commit forgets, at three operations
// each of blobstore.TxnOpsMax.
const purgeBatch = 64

// UndeleteRequest names what is to come back.
type UndeleteRequest struct {
	Account  string `json:"account"`
	ID       string `json:"id"`
	Deletion string `json:"deletion"` // of a page of deleted items; "": the latest
	As       string `json:"as"`       // the id to come back under; "": ID
}

// decodeDeleted reads a row of deletedPrefix; rest is its key behind the
// account.
func (l *Library) decodeDeleted(account, rest string, row blobstore.Row) (Document, error) {
	id, inverted, _ := strings.Cut(rest, "\x00")
	d, err := decodeDocument(account, id, row)
	if err != nil {
		return Document{}, err
	}
	if d.Deletion == nil || !rows.IsID(inverted) {
		return Document{}, fmt.Errorf("deleted %s/%s: %w", account, id, blobstore.ErrCorrupt)
	}
	d.Deletion.ID = rows.InvertID(inverted)
	d.Deletion.Until = d.Deletion.Time.Add(l.cfg.UndeleteWindow)
	return d, nil
}

// Undelete brings back what was deleted, with all its fields; retention counts
// anew. ErrNotFound when there is nothing to bring back, ErrExists when the
// name is taken.
func (l *Library) Undelete(ctx context.Context, r UndeleteRequest) (Document, error) {
	as := cmp.Or(r.As, r.ID)
	if err := errors.Join(naming.CheckItem(r.Account, r.ID), naming.CheckID(as)); err != nil {
		return Document{}, err
	}
	if r.Deletion != "" && !rows.IsID(r.Deletion) {
		return Document{}, fmt.Errorf("deletion %s: %w", naming.Shown(r.Deletion), ErrNotFound)
	}
	var d Document
	revision, err := l.rows.Write(ctx, func() (blobstore.Txn, error) {
		err := l.rows.Find(ctx, func() (err error) {
			d, err = l.deleted(ctx, &r)
			return err
		})
		if err != nil {
			return blobstore.Txn{}, err
		}
		there, err := l.current(ctx, r.Account, as)
		if err != nil {
			return blobstore.Txn{}, err
		}
		if there != nil {
			return blobstore.Txn{}, fmt.Errorf("item %s/%s: %w", r.Account, as, ErrExists)
		}
		if err := l.checkQuota(ctx, r.Account, d.Size, 1); err != nil {
			return blobstore.Txn{}, err
		}
		c := l.newChange()
		c.forget(&d)
		now := time.Now().UTC().Truncate(time.Millisecond)
		d.ID, d.Deletion, d.Modified, d.Stored = as, nil, now, now
		if _, holder := c.promptRow(ctx, &d); d.Prompt != "" && holder != "" {
			d.Prompt = "" // another has taken its place, and keeps it
		}
		c.writeDocument(ctx, nil, &d)
		c.event(feed.MediaUndeleted, mediaEvent(&d))
		return c.Done()
	})
	if err != nil {
		return Document{}, fmt.Errorf("undelete %s/%s: %w", r.Account, r.ID, err)
	}
	d.Revision = revision
	return d, nil
}

// deleted finds what the request names, the latest deletion first.
func (l *Library) deleted(ctx context.Context, r *UndeleteRequest) (Document, error) {
	base := deletedPrefix + r.Account + "/"
	for row, err := range l.rows.Scan(ctx, deletedKeyPrefix(r.Account, r.ID), "") {
		if err != nil {
			return Document{}, fmt.Errorf("deleted %s/%s: %w", r.Account, r.ID, err)
		}
		d, err := l.decodeDeleted(r.Account, row.Key[len(base):], row)
		if err != nil || r.Deletion == "" || d.Deletion.ID == r.Deletion {
			return d, err
		}
	}
	return Document{}, fmt.Errorf("deleted item %s/%s: %w", r.Account, r.ID, ErrNotFound)
}

// forget removes a deleted document for good.
func (c *change) forget(d *Document) {
	key := deletedKey(d.Account, d.ID, d.Deletion.ID)
	c.Expect(key, d.Revision)
	c.Remove(key)
	c.Remove(blobstore.RefKey(d.Blob, key))
}

// Purge removes an item, and everything that was deleted under its name, so
// that nothing can be brought back. ErrNotFound when there is neither.
func (l *Library) Purge(ctx context.Context, account, id, ifMatch string) error {
	if err := naming.CheckItem(account, id); err != nil {
		return err
	}
	_, err := l.change(ctx, account, id, ifMatch, func(c *change, before *Document) error {
		c.deleteDocument(ctx, before, deletion{reason: DeletedByRequest})
		return nil
	})
	found := err == nil
	if err != nil && (ifMatch != "" || !errors.Is(err, ErrNotFound)) {
		return err
	}
	for {
		var batch []Document
		for row, err := range l.rows.Scan(ctx, deletedKeyPrefix(account, id), "") {
			if err != nil {
				return fmt.Errorf("purge %s/%s: %w", account, id, err)
			}
			d, err := l.decodeDeleted(account, row.Key[len(deletedPrefix+account+"/"):], row)
			if err != nil {
				return err
			}
			if batch = append(batch, d); len(batch) == purgeBatch {
				break
			}
		}
		if len(batch) == 0 {
			break
		}
		found = true
		if err := l.forgetAll(ctx, batch); err != nil {
			return fmt.Errorf("purge %s/%s: %w", account, id, err)
		}
	}
	if !found {
		return fmt.Errorf("item %s/%s: %w", account, id, ErrNotFound)
	}
	return nil
}

// forgetAll removes deleted documents for good, at most purgeBatch of them.
// What another node has removed or brought back meanwhile is left to it.
func (l *Library) forgetAll(ctx context.Context, batch []Document) error {
	c := l.newChange()
	for i := range batch {
		c.forget(&batch[i])
	}
	txn, err := c.Done()
	if err != nil {
		return err
	}
	_, err = l.rows.Commit(ctx, txn)
	if !errors.Is(err, blobstore.ErrConflict) {
		return err
	}
	if err := l.rows.Fresh(ctx); err != nil {
		return err
	}
	for i := range batch {
		c := l.newChange()
		c.forget(&batch[i])
		txn, err := c.Done()
		if err != nil {
			return err
		}
		if _, err := l.rows.Commit(ctx, txn); err != nil && !errors.Is(err, blobstore.ErrConflict) {
			return err
		}
	}
	return nil
}

// DeletedTotal is what all accounts have deleted and can bring back.
func (l *Library) DeletedTotal(ctx context.Context) (Usage, error) {
	t, err := l.rows.Tally(ctx, deletedPrefix)
	if err != nil {
		return Usage{}, fmt.Errorf("deleted items: %w", err)
	}
	return Usage{Items: int64(t.Items), Bytes: int64(t.Bytes)}, nil
}
