package library

import (
	"context"
	"fmt"
	"strings"
	"time"

	"carillon/blobstore"
	"carillon/library/field"
	"carillon/library/naming"
	"carillon/library/rows"
)

// aliasHopsMax bounds how many second names are followed one after the other.
// A new one always stands for the item itself; a chain comes about when an item
// is replaced by a second name.
const aliasHopsMax = 4

// ItemName is {account}/{id}.
type ItemName struct {
	Account string `json:"account"`
	ID      string `json:"id"`
}

// String returns "account/id".
func (n ItemName) String() string { return n.Account + "/" + n.ID }

func (n ItemName) check(c *checks, name string) {
	if err := naming.CheckItem(n.Account, n.ID); err != nil {
		c.Fail(name, field.Invalid, "is no item: %v", err)
	}
}

// AliasRequest makes a second name.
type AliasRequest struct {
	Alias ItemName `json:"alias"`
	Of    ItemName `json:"of"`
	// Overwrite replaces an item or second name that has this name.
	Overwrite bool `json:"overwrite"`
}

// item is the document that a name stands for, as this node knows it: itself,
// or the one that a second name means. ErrNotFound.
func (l *Library) item(ctx context.Context, account, id string) (*Document, error) {
	d, err := l.document(ctx, account, id)
	if err != nil || d.AliasOf == "" {
		return d, err
	}
	return l.meant(ctx, d)
}

// meant is the item that a second name stands for.
func (l *Library) meant(ctx context.Context, d *Document) (*Document, error) {
	for range aliasHopsMax {
		if d.AliasOf == "" {
			return d, nil
		}
		account, id, _ := strings.Cut(d.AliasOf, "/")
		var err error
		if d, err = l.document(ctx, account, id); err != nil {
			return nil, fmt.Errorf("a second name of %s/%s: %w", account, id, err)
		}
	}
	return nil, fmt.Errorf("item %s/%s stands for no item: %w", d.Account, d.ID, ErrNotFound)
}

// Alias gives an item a second name, also in another account. It plays what
// the item plays, also after that is replaced, and nothing after it is
// deleted. ErrNotFound without the item, ErrExists when the name is taken.
func (l *Library) Alias(ctx context.Context, r AliasRequest) (Document, error) {
	var c checks
	r.Alias.check(&c, "alias")
	r.Of.check(&c, "of")
	if r.Alias == r.Of {
		c.Fail("alias", field.Invalid, "is the item itself")
	}
	if err := c.Err(); err != nil {
		return Document{}, err
	}
	var d Document
	revision, err := l.rows.Write(ctx, func() (blobstore.Txn, error) {
		target, err := l.Get(ctx, r.Of.Account, r.Of.ID, Fresh)
		if err != nil {
			return blobstore.Txn{}, err
		}
		of := ItemName{target.Account, target.ID}
		if of == r.Alias {
			return blobstore.Txn{}, fmt.Errorf("%s means %s already: %w", r.Of, of, ErrExists)
		}
		before, err := l.current(ctx, r.Alias.Account, r.Alias.ID)
		if err != nil {
			return blobstore.Txn{}, err
		}
		if before != nil && !r.Overwrite {
			return blobstore.Txn{}, fmt.Errorf("item %s: %w", r.Alias, ErrExists)
		}
		now := time.Now().UTC().Truncate(time.Millisecond)
		d = Document{
			Account: r.Alias.Account, ID: r.Alias.ID, AliasOf: of.String(), Source: target.Source,
			Created: now, Modified: now, Stored: now,
		}
		d.Class = classOf(&d)
		change := l.newChange()
		change.Expect(mediaKey(of.Account, of.ID), target.Revision)
		change.Put(namedKey(of), rows.EncodeText(""))
		change.replaceDocument(ctx, before, &d)
		return change.Done()
	})
	if err != nil {
		return Document{}, fmt.Errorf("alias %s: %w", r.Alias, err)
	}
	d.Revision = revision
	return d, nil
}
