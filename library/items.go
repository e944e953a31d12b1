package library

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"carillon/blobstore"
)

// Sources of a document.
const (
	sourceUpload    = "upload"
	sourceRecording = "recording"
)

// scanRowsMax bounds the rows that one page of a filtered listing looks at:
// some 50 ms of decoding. A page may thus be short, and Next still leads on.
const scanRowsMax = 10_000

// Put stores body as {account}/{id}. Fields of opts that are empty keep what
// the replaced document had, so that new sound for a prompt leaves it a prompt.
func (l *Library) Put(
	ctx context.Context, account, id string, body io.Reader, opts PutOptions,
) (Document, bool, error) {
	d, created, err := l.put(ctx, account, id, body, opts)
	l.metrics.put(d.Size, err)
	return d, created, err
}

func (l *Library) put(
	ctx context.Context, account, id string, body io.Reader, opts PutOptions,
) (Document, bool, error) {
	if err := l.admit(ctx, account, id, &opts); err != nil {
		return Document{}, false, err
	}
	sound, err := l.receive(ctx, body, opts.Length)
	if err != nil {
		return Document{}, false, fmt.Errorf("put %s/%s: %w", account, id, err)
	}
	defer sound.release()
	d := Document{
		Account: account, ID: id,
		Blob: sound.blob, Size: sound.totals.Size, SHA256: sound.totals.SHA256.String(),
		ContentType: sound.info.Format.ContentType(), Audio: sound.info,
		DurationMS: sound.info.Duration().Milliseconds(), Truncated: sound.info.Truncated,
		Name: opts.Name, Description: opts.Description, Language: opts.Language, Prompt: opts.Prompt,
		Source: sourceUpload, Metadata: opts.Metadata,
	}
	created := false
	d.Revision, err = l.commit(ctx, func() (blobstore.Txn, error) {
		before, err := l.current(ctx, account, id)
		if err != nil {
			return blobstore.Txn{}, err
		}
		if err := checkConditions(opts.IfMatch, opts.IfNoneMatch, etagOf(before)); err != nil {
			return blobstore.Txn{}, err
		}
		created = before == nil
		l.inherit(&d, before)
		c := l.newChange()
		c.replaceDocument(ctx, before, &d)
		c.txn.Sound = sound.whole
		return c.done()
	})
	if err != nil {
		// The blob has no reference, or, when the outcome is not known, may
		// have one: the sweep decides, not we.
		return Document{}, false, fmt.Errorf("put %s/%s: %w", account, id, err)
	}
	return d, created, nil
}

// admit refuses what can be refused before the body is read.
func (l *Library) admit(ctx context.Context, account, id string, opts *PutOptions) error {
	opts.Language = strings.ToLower(opts.Language)
	err := errors.Join(
		checkItem(account, id),
		checkTexts(opts.Name, opts.Description),
		checkPrompt(opts.Prompt, opts.Language),
		checkMetadata(opts.Metadata),
		checkContentType(opts.ContentType),
	)
	if err != nil {
		return err
	}
	if opts.Length > l.cfg.UploadBytesMax {
		return fmt.Errorf("body of %d bytes, at most %d: %w", opts.Length, l.cfg.UploadBytesMax, ErrTooLarge)
	}
	if opts.IfMatch == "" && opts.IfNoneMatch == "" {
		return nil
	}
	before, err := l.current(ctx, account, id)
	if err != nil {
		return err
	}
	if checkConditions(opts.IfMatch, opts.IfNoneMatch, etagOf(before)) == nil {
		return nil
	}
	// Refused by what this node knows, which may be old.
	if err := l.fresh(ctx); err != nil {
		return err
	}
	if before, err = l.current(ctx, account, id); err != nil {
		return err
	}
	return checkConditions(opts.IfMatch, opts.IfNoneMatch, etagOf(before))
}

// current is the document that a write would replace, nil for none.
func (l *Library) current(ctx context.Context, account, id string) (*Document, error) {
	d, err := l.document(ctx, account, id)
	if errors.Is(err, ErrNotFound) {
		return nil, nil //nolint:nilnil // nothing there is an answer here
	}
	return d, err
}

func etagOf(d *Document) string {
	if d == nil {
		return ""
	}
	return d.ETag()
}

// inherit fills in times, and what the writer left open, from the document
// that is replaced.
func (l *Library) inherit(d, before *Document) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	d.Created, d.Modified = now, now
	if before != nil {
		d.Created = before.Created
		d.Name = cmp.Or(d.Name, before.Name)
		d.Description = cmp.Or(d.Description, before.Description)
		d.Language = cmp.Or(d.Language, before.Language)
		d.Prompt = cmp.Or(d.Prompt, before.Prompt)
		if d.Metadata == nil {
			d.Metadata = before.Metadata
		}
	}
	if d.Prompt != "" && d.Language == "" {
		d.Language = l.cfg.DefaultLanguage
	}
}

// Get returns the document of {account}/{id}. Its metadata must not be changed.
func (l *Library) Get(ctx context.Context, account, id string, c Consistency) (Document, error) {
	if err := checkItem(account, id); err != nil {
		return Document{}, err
	}
	if c == Fresh || c == "" { // the playback path, kept short
		d, err := l.document(ctx, account, id)
		if err == nil {
			return *d, nil
		}
		if !errors.Is(err, ErrNotFound) {
			return Document{}, err
		}
		c = Linearizable // which is how a miss goes on
	}
	var d *Document
	err := l.read(ctx, c, func() (err error) {
		d, err = l.document(ctx, account, id)
		return err
	})
	if err != nil {
		return Document{}, err
	}
	return *d, nil
}

// OpenItem opens the bytes of a document.
func (l *Library) OpenItem(ctx context.Context, doc Document) (*blobstore.Reader, error) {
	r, err := l.shelf.Open(ctx, doc.Blob)
	if err != nil {
		return nil, fmt.Errorf("open %s/%s: %w", doc.Account, doc.ID, err)
	}
	return r, nil
}

// Delete removes the item; ErrNotFound when there is none.
func (l *Library) Delete(ctx context.Context, account, id, ifMatch string) error {
	if err := checkItem(account, id); err != nil {
		return err
	}
	_, err := l.change(ctx, account, id, ifMatch, func(c *change, before *Document) error {
		c.removeDocument(ctx, before)
		return nil
	})
	return err
}

// Update changes the document's editable fields.
func (l *Library) Update(ctx context.Context, account, id string, p Patch) (Document, error) {
	if err := checkItem(account, id); err != nil {
		return Document{}, err
	}
	var d Document
	revision, err := l.change(ctx, account, id, p.IfMatch, func(c *change, before *Document) error {
		var err error
		if d, err = l.patched(*before, p); err != nil {
			return err
		}
		c.replaceDocument(ctx, before, &d)
		return nil
	})
	d.Revision = revision
	if err != nil {
		return Document{}, err
	}
	return d, nil
}

// change commits what edit makes of the document that is there, which is at
// least as new as the call.
func (l *Library) change(
	ctx context.Context, account, id, ifMatch string, edit func(*change, *Document) error,
) (uint64, error) {
	caughtUp := false
	return l.commit(ctx, func() (blobstore.Txn, error) {
		before, err := l.current(ctx, account, id)
		if err == nil {
			err = checkExisting(before, account, id, ifMatch)
		}
		if err != nil && !caughtUp && (errors.Is(err, ErrNotFound) || errors.Is(err, ErrPrecondition)) {
			caughtUp = true
			if err := l.fresh(ctx); err != nil {
				return blobstore.Txn{}, err
			}
			if before, err = l.current(ctx, account, id); err == nil {
				err = checkExisting(before, account, id, ifMatch)
			}
		}
		if err != nil {
			return blobstore.Txn{}, err
		}
		c := l.newChange()
		if err := edit(c, before); err != nil {
			return blobstore.Txn{}, err
		}
		return c.done()
	})
}

func checkExisting(before *Document, account, id, ifMatch string) error {
	if err := checkConditions(ifMatch, "", etagOf(before)); err != nil {
		return err
	}
	if before == nil {
		return fmt.Errorf("item %s/%s: %w", account, id, ErrNotFound)
	}
	return nil
}

func (l *Library) patched(d Document, p Patch) (Document, error) {
	assign := func(to, from *string) {
		if from != nil {
			*to = *from
		}
	}
	assign(&d.Name, p.Name)
	assign(&d.Description, p.Description)
	assign(&d.Language, p.Language)
	assign(&d.Prompt, p.Prompt)
	d.Language = strings.ToLower(d.Language)
	if d.Prompt != "" && d.Language == "" {
		d.Language = l.cfg.DefaultLanguage
	}
	if p.Metadata != nil {
		merged := maps.Clone(d.Metadata)
		if merged == nil {
			merged = make(map[string]string, len(p.Metadata))
		}
		maps.Copy(merged, p.Metadata)
		maps.DeleteFunc(merged, func(_, v string) bool { return v == "" })
		d.Metadata = merged
	}
	d.Modified = time.Now().UTC().Truncate(time.Millisecond)
	return d, errors.Join(
		checkTexts(d.Name, d.Description),
		checkPrompt(d.Prompt, d.Language),
		checkMetadata(d.Metadata),
	)
}

// List returns documents in the order of their ids.
func (l *Library) List(ctx context.Context, account string, q ListQuery) (Page, error) {
	if err := CheckAccount(account); err != nil {
		return Page{}, err
	}
	limit, err := pageLimit(q.Limit)
	if err != nil {
		return Page{}, err
	}
	if len(q.Prefix) > IDBytesMax || len(q.After) > IDBytesMax {
		return Page{}, fmt.Errorf("prefix and after of at most %d bytes: %w", IDBytesMax, ErrBadRequest)
	}
	base, language := mediaKey(account, ""), strings.ToLower(q.Language)
	after := ""
	if q.After != "" {
		after = base + q.After
	}
	page := Page{Items: []Document{}}
	rows, last := 0, ""
	for row, err := range l.catalog.Scan(ctx, base+q.Prefix, after) {
		if err != nil {
			return Page{}, fmt.Errorf("list %s: %w", account, err)
		}
		if len(page.Items) == limit || rows == scanRowsMax {
			page.Next = last
			break
		}
		rows++
		last = row.Key[len(base):]
		d, err := decodeDocument(account, last, row)
		if err != nil {
			return Page{}, err
		}
		if (language == "" || d.Language == language) && (q.Prompt == "" || d.Prompt == q.Prompt) {
			page.Items = append(page.Items, d)
		}
	}
	return page, nil
}

func pageLimit(limit int) (int, error) {
	switch {
	case limit == 0:
		return PageLimitDefault, nil
	case limit < 0 || limit > PageLimitMax:
		return 0, fmt.Errorf("limit %d, want 1 to %d: %w", limit, PageLimitMax, ErrBadRequest)
	}
	return limit, nil
}
