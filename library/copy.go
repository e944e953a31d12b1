package library

import (
	"context"
	"errors"
	"fmt"
	"time"

	"carillon/blobstore"
	"carillon/library/field"
)

// CopyRequest copies or renames an item, also across accounts. No bytes move.
type CopyRequest struct {
	From ItemName `json:"from"`
	To   ItemName `json:"to"`
	// Set changes fields of the new item. A copy within the account is no
	// prompt unless prompt_id is set here: one sound is it.
	Set Patch `json:"set"`
	// Overwrite replaces an item that has the name; else that is ErrExists.
	Overwrite bool `json:"overwrite"`
	// IfMatch is about the sound that is copied, IfNoneMatch about what has the
	// new name; raw headers, "" for none.
	IfMatch     string `json:"-"`
	IfNoneMatch string `json:"-"`
}

// Copy makes another item of an item's sound, with its fields. Of a second name
// it copies the item that it stands for. ErrNotFound, ErrExists,
// ErrPrecondition, ErrQuota, field.Errors.
func (l *Library) Copy(ctx context.Context, r CopyRequest) (Document, error) {
	return l.copyItem(ctx, &r, false)
}

// Rename gives an item another name, in one commit: at no moment there are two
// or none. Its age stays, and what names it follows: second names, playlists.
// A second name is renamed itself, with what names that. ErrUsed for what
// cannot follow.
func (l *Library) Rename(ctx context.Context, r CopyRequest) (Document, error) {
	return l.copyItem(ctx, &r, true)
}

func (l *Library) copyItem(ctx context.Context, r *CopyRequest, move bool) (Document, error) {
	var c checks
	r.From.check(&c, "from")
	r.To.check(&c, "to")
	if r.From == r.To {
		c.Fail("to", field.Invalid, "is the item itself")
	}
	if err := c.Err(); err != nil {
		return Document{}, err
	}
	var d Document
	revision, err := l.rows.Write(ctx, func() (blobstore.Txn, error) {
		source, before, err := l.copied(ctx, r, move)
		if err != nil {
			return blobstore.Txn{}, err
		}
		if d, err = l.copyOf(source, r, move); err != nil {
			return blobstore.Txn{}, err
		}
		if !move || r.From.Account != r.To.Account {
			bytes, items := grown(before, d.Size)
			if err := l.checkQuota(ctx, r.To.Account, bytes, items); err != nil {
				return blobstore.Txn{}, err
			}
		}
		var named *followers
		if move {
			if named, err = l.followers(ctx, source, r.To); err != nil {
				return blobstore.Txn{}, err
			}
		}
		c := l.newChange()
		if move {
			c.removeDocument(ctx, source)
			c.tellDeleted(source, "renamed to "+r.To.String())
		} else {
			c.Expect(mediaKey(source.Account, source.ID), source.Revision)
		}
		c.replaceDocument(ctx, before, &d)
		c.settleMoves()
		if move {
			c.follow(named, d.Modified)
		}
		return c.Done()
	})
	if err != nil {
		verb := "copy"
		if move {
			verb = "rename"
		}
		return Document{}, fmt.Errorf("%s %s: %w", verb, r.From, err)
	}
	d.Revision = revision
	return d, nil
}

// copied finds what is copied and what it would replace (nil: nothing).
func (l *Library) copied(
	ctx context.Context, r *CopyRequest, move bool,
) (source, before *Document, err error) {
	find := func() error {
		if source, err = l.existing(ctx, r.From.Account, r.From.ID, r.IfMatch); err != nil {
			return err
		}
		if source.AliasOf != "" && !move {
			if source, err = l.meant(ctx, source); err != nil {
				return err
			}
		}
		if before, err = l.current(ctx, r.To.Account, r.To.ID); err != nil {
			return err
		}
		etags, err := l.etags(ctx, before)
		if err == nil {
			err = checkConditions("", r.IfNoneMatch, etags...)
		}
		if err == nil && before != nil && !r.Overwrite {
			err = fmt.Errorf("item %s: %w", r.To, ErrExists)
		}
		return err
	}
	err = find()
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrPrecondition) || errors.Is(err, ErrExists) {
		// By what this node knows, which may be old.
		if err := l.rows.Fresh(ctx); err != nil {
			return nil, nil, err
		}
		err = find()
	}
	return source, before, err
}

// copyOf is the document that the request makes of source.
func (l *Library) copyOf(source *Document, r *CopyRequest, move bool) (Document, error) {
	d := *source
	d.Account, d.ID = r.To.Account, r.To.ID
	if source.Class == ClassSystem {
		d.Class = ""
	}
	if !move && d.Account == source.Account {
		d.Prompt = ""
	}
	r.Set.apply(&d)
	if d.Prompt != "" && d.Language == "" {
		d.Language = l.cfg.DefaultLanguage
	}
	d.Class = classOf(&d)
	d.Modified = time.Now().UTC().Truncate(time.Millisecond)
	if !move {
		d.Created, d.Stored = d.Modified, d.Modified
	}
	var c checks
	c.fields(&d)
	return d, c.Err()
}

// settleMoves lets a row that is written win over its own removal: a rename
// takes the index row of a prompt away from the old name and gives it to the
// new one.
func (c *change) settleMoves() {
	put := make(map[string]bool, len(c.Txn.Put))
	for i := range c.Txn.Put {
		put[c.Txn.Put[i].Key] = true
	}
	kept := c.Txn.Delete[:0]
	for _, key := range c.Txn.Delete {
		if !put[key] {
			kept = append(kept, key)
		}
	}
	c.Txn.Delete = kept
}
