package library

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"carillon/blobstore"
	"carillon/library/feed"
	"carillon/library/rows"
)

// replaceDocument writes d over before (nil: nothing there), on the condition
// that before is still what is there, and tells of it.
func (c *change) replaceDocument(ctx context.Context, before, d *Document) {
	kind := feed.MediaCreated
	if before != nil {
		kind = feed.MediaChanged
		if before.Blob != d.Blob || before.AliasOf != d.AliasOf {
			kind = feed.MediaReplaced
		}
	}
	c.writeDocument(ctx, before, d)
	c.event(kind, mediaEvent(d))
}

// writeDocument is replaceDocument without a word.
func (c *change) writeDocument(ctx context.Context, before, d *Document) {
	key := mediaKey(d.Account, d.ID)
	if before == nil {
		c.Expect(key, 0)
	} else {
		c.Expect(key, before.Revision)
		if before.AliasOf == "" && before.Blob != d.Blob {
			c.Remove(blobstore.RefKey(before.Blob, key))
		}
		if promptKey(before) != promptKey(d) {
			c.removePrompt(ctx, before)
		}
	}
	c.putDocument(key, d)
	if d.AliasOf == "" {
		c.Put(blobstore.RefKey(d.Blob, key), rows.EncodeText(""))
	}
	if d.Prompt != "" {
		c.takePrompt(ctx, d)
	}
}

func (c *change) putDocument(key string, d *Document) {
	value, err := encodeDocument(d)
	c.Fail(err)
	c.Txn.Put = append(c.Txn.Put, blobstore.Row{Key: key, Value: value, Weight: uint64(max(d.Size, 0))})
}

// deletion is how something is deleted.
type deletion struct {
	reason string
	at     time.Time
	window time.Duration // in which it can be brought back; 0: it cannot
}

// deleteDocument removes before and tells why. For a window above 0 what it
// was stays in the catalog, and its sound on the shelf.
func (c *change) deleteDocument(ctx context.Context, before *Document, how deletion) {
	c.removeDocument(ctx, before)
	c.keepDeleted(before, how)
	c.tellDeleted(before, how.reason)
}

// keepDeleted keeps what before was for the window.
func (c *change) keepDeleted(before *Document, how deletion) {
	if how.window <= 0 || before.AliasOf != "" {
		return
	}
	at := how.at.UTC().Truncate(time.Millisecond)
	deleted := *before
	deleted.Deletion = &Deletion{ID: rows.NewID(how.at), Time: at, Reason: how.reason}
	key := deletedKey(before.Account, before.ID, deleted.Deletion.ID)
	c.putDocument(key, &deleted)
	c.Put(blobstore.RefKey(before.Blob, key), rows.EncodeText(""))
}

func (c *change) tellDeleted(before *Document, detail string) {
	e := mediaEvent(before)
	e.Revision, e.Detail = before.Revision, detail
	c.event(feed.MediaDeleted, e)
}

// removeDocument takes before out of the catalog without a word.
func (c *change) removeDocument(ctx context.Context, before *Document) {
	key := mediaKey(before.Account, before.ID)
	c.Expect(key, before.Revision)
	c.Remove(key)
	if before.AliasOf == "" {
		c.Remove(blobstore.RefKey(before.Blob, key))
	}
	c.removePrompt(ctx, before)
}

// removePrompt takes the document out of the index of prompts, unless another
// has said later that it is that prompt.
func (c *change) removePrompt(ctx context.Context, d *Document) {
	if d.Prompt == "" {
		return
	}
	row, id := c.promptRow(ctx, d)
	if row.Revision != 0 && id == d.ID {
		c.Expect(row.Key, row.Revision)
		c.Remove(row.Key)
	}
}

// takePrompt makes d the prompt that it says it is. Another document that was
// it is none any more: an account has one sound for a prompt and a language.
func (c *change) takePrompt(ctx context.Context, d *Document) {
	row, id := c.promptRow(ctx, d)
	c.Expect(promptKey(d), row.Revision)
	c.Put(promptKey(d), rows.EncodeText(d.ID))
	if row.Revision == 0 || id == d.ID || c.removes(mediaKey(d.Account, id)) {
		return
	}
	other, err := c.catalog.Get(ctx, mediaKey(d.Account, id))
	if errors.Is(err, blobstore.ErrNotFound) {
		return
	}
	var before Document
	if err == nil {
		before, err = decodeDocument(d.Account, id, other)
	}
	if err != nil {
		c.Fail(err)
		return
	}
	if promptKey(&before) != promptKey(d) {
		return
	}
	after := before
	after.Prompt = ""
	c.Expect(other.Key, other.Revision)
	c.putDocument(other.Key, &after)
	e := mediaEvent(&after)
	e.Detail = "it is no longer a prompt: " + d.ID + " is"
	c.event(feed.MediaChanged, e)
}

func (c *change) removes(key string) bool {
	return slices.Contains(c.Txn.Delete, key)
}

// promptRow is the index row of the prompt that d says it is, with revision 0
// when there is none, and the id of the document that it names.
func (c *change) promptRow(ctx context.Context, d *Document) (row blobstore.Row, id string) {
	row, err := c.catalog.Get(ctx, promptKey(d))
	if errors.Is(err, blobstore.ErrNotFound) {
		return blobstore.Row{}, ""
	}
	if err == nil {
		id, err = rows.DecodeText(row.Value)
	}
	if err != nil {
		c.Fail(fmt.Errorf("prompt %s: %w", d.Prompt, err))
	}
	return row, id
}
