package library

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"carillon/blobstore"
	"carillon/library/naming"
)

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
	kept := l.spoolWriter(account, id, &opts)
	to := l.writer
	if kept != nil {
		to = kept
	}
	in, err := l.receive(ctx, to, body, opts.Length, l.cfg.UploadBytesMax)
	if err != nil {
		return Document{}, false, fmt.Errorf("put %s/%s: %w", account, id, err)
	}
	defer in.release()
	d, created, err := l.storeUpload(ctx, kept, upload{account: account, id: id, opts: opts, sound: in})
	if err != nil {
		// The blob has no reference, or, when the outcome is not known, may
		// have one: the sweep decides, not we.
		return Document{}, false, fmt.Errorf("put %s/%s: %w", account, id, err)
	}
	return d, created, nil
}

// upload is an item whose sound has arrived.
type upload struct {
	account, id string
	opts        PutOptions
	sound       sound
	// arrived is when a spooled one came, zero for now.
	arrived time.Time
	// ingest is set for the file of a recording.
	ingest *spoolIngest
}

// commitUpload writes the document of an upload, unless check refuses what is
// to be replaced, and says whether it is new.
func (l *Library) commitUpload(
	ctx context.Context, u *upload, check func(before *Document) error,
) (d Document, created bool, err error) {
	var try uint64
	d.Revision, err = l.rows.Write(ctx, func() (blobstore.Txn, error) {
		before, err := l.current(ctx, u.account, u.id)
		if err == nil && check != nil {
			err = check(before)
		}
		if err != nil {
			return blobstore.Txn{}, err
		}
		if d, err = l.replacing(ctx, &u.opts, before, u.account, u.id); err != nil {
			return blobstore.Txn{}, err
		}
		if d.sounds(&u.sound); !u.arrived.IsZero() {
			d.date(u.arrived, before)
		}
		created = before == nil
		if u.arrived.IsZero() { // what was spooled is acknowledged
			bytes, items := grown(before, d.Size)
			if err := l.checkQuota(ctx, u.account, bytes, items); err != nil {
				return blobstore.Txn{}, err
			}
		}
		c := l.newChange()
		c.replaceDocument(ctx, before, &d)
		c.Txn.Sound = u.sound.whole
		c.Txn.ID = commitID(u.sound.blob, try)
		try++
		return c.Done()
	})
	if err != nil {
		return Document{}, false, err
	}
	return d, created, nil
}

// commitID names the tries to commit an upload, the same ones each time: of one
// that went to the spool because nobody could tell what became of its commit,
// the replay goes through them again. A try that was refused then is refused
// now, and the one that nobody knew of counts once, so that what was written or
// deleted after it stays.
func commitID(blob blobstore.ID, try uint64) [16]byte {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(blob[:], try))
	return [16]byte(sum[:])
}

// date says that the sound came at a time that has passed.
func (d *Document) date(at time.Time, before *Document) {
	if d.Modified, d.Stored = at, at; before == nil {
		d.Created = at
	}
}

// sounds makes d the document of a sound.
func (d *Document) sounds(s *sound) {
	d.Blob, d.Size, d.SHA256 = s.blob, s.totals.Size, s.totals.SHA256.String()
	d.ContentType, d.Audio = s.info.Format.ContentType(), s.info
	d.DurationMS, d.Truncated = s.info.Duration().Milliseconds(), s.info.Truncated
}

// admit refuses what can be refused before the body is read.
func (l *Library) admit(ctx context.Context, account, id string, opts *PutOptions) error {
	if err := naming.CheckItem(account, id); err != nil {
		return err
	}
	d := opts.described(account, id)
	var c checks
	c.fields(&d)
	if err := errors.Join(c.Err(), checkContentType(opts.ContentType)); err != nil {
		return err
	}
	if opts.Length > l.cfg.UploadBytesMax {
		return fmt.Errorf("body of %d bytes, at most %d: %w", opts.Length, l.cfg.UploadBytesMax, ErrTooLarge)
	}
	before, err := l.current(ctx, account, id)
	if err != nil {
		return err
	}
	bytes, items := grown(before, max(opts.Length, 0))
	if err := l.checkQuota(ctx, account, bytes, items); err != nil {
		return err
	}
	if opts.IfMatch == "" && opts.IfNoneMatch == "" && opts.Prompt == "" && opts.Language == "" {
		return nil
	}
	if _, err = l.replacing(ctx, opts, before, account, id); err == nil {
		return nil
	}
	// Refused by what this node knows, which may be old.
	if err := l.rows.Fresh(ctx); err != nil {
		return err
	}
	if before, err = l.current(ctx, account, id); err != nil {
		return err
	}
	_, err = l.replacing(ctx, opts, before, account, id)
	return err
}

// replacing is the document that an upload would make of before (nil: nothing
// there), yet without its sound.
func (l *Library) replacing(
	ctx context.Context, opts *PutOptions, before *Document, account, id string,
) (Document, error) {
	etags, err := l.etags(ctx, before)
	if err == nil {
		err = checkConditions(opts.IfMatch, opts.IfNoneMatch, etags...)
	}
	if err != nil {
		return Document{}, err
	}
	d := opts.described(account, id)
	l.inherit(&d, before)
	var c checks
	c.identity(before, &d)
	return d, c.Err()
}

// current is the document that a write would replace, nil for none.
func (l *Library) current(ctx context.Context, account, id string) (*Document, error) {
	d, err := l.document(ctx, account, id)
	if errors.Is(err, ErrNotFound) {
		return nil, nil //nolint:nilnil // nothing there is an answer here
	}
	return d, err
}

// etags are the validators of what a client finds under the name: of the item
// itself if that is a second name. None when nothing is found.
func (l *Library) etags(ctx context.Context, d *Document) ([]string, error) {
	if d != nil && d.AliasOf != "" {
		target, err := l.meant(ctx, d)
		if errors.Is(err, ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		d = target
	}
	if d == nil {
		return nil, nil
	}
	return []string{d.ETag(), d.RevisionTag()}, nil
}

// Get returns the document of {account}/{id}. Its metadata must not be changed.
func (l *Library) Get(ctx context.Context, account, id string, c Consistency) (Document, error) {
	if err := naming.CheckItem(account, id); err != nil {
		return Document{}, err
	}
	if c == Fresh || c == "" { // the playback path, kept short
		d, err := l.item(ctx, account, id)
		if err == nil {
			return *d, nil
		}
		if err = l.unlessSpooled(err, account, id); !errors.Is(err, ErrNotFound) {
			return Document{}, err
		}
		c = Linearizable // which is how a miss goes on
	}
	var d *Document
	err := l.read(ctx, c, func() (err error) {
		d, err = l.item(ctx, account, id)
		return l.unlessSpooled(err, account, id)
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

// Delete removes the item; it can be brought back for Config.UndeleteWindow.
// ErrNotFound when there is none.
func (l *Library) Delete(ctx context.Context, account, id, ifMatch string) error {
	if err := naming.CheckItem(account, id); err != nil {
		return err
	}
	_, err := l.change(ctx, account, id, ifMatch, func(c *change, before *Document) error {
		c.deleteDocument(ctx, before, deletion{DeletedByRequest, time.Now(), l.cfg.UndeleteWindow})
		return nil
	})
	return err
}

// Update changes the document's editable fields; of a second name those of the
// item that it stands for.
func (l *Library) Update(ctx context.Context, account, id string, p Patch) (Document, error) {
	if err := naming.CheckItem(account, id); err != nil {
		return Document{}, err
	}
	d, err := l.Get(ctx, account, id, Fresh)
	if err != nil {
		return Document{}, err
	}
	d.Revision, err = l.change(ctx, d.Account, d.ID, p.IfMatch, func(c *change, before *Document) error {
		if before.AliasOf != "" {
			return fmt.Errorf("item %s/%s: %w", account, id, ErrNotFound) // it became one meanwhile
		}
		var err error
		if d, err = l.patched(*before, &p); err != nil {
			return err
		}
		c.replaceDocument(ctx, before, &d)
		return nil
	})
	return d, err
}

// change commits an edit of an item that must be there.
func (l *Library) change(
	ctx context.Context, account, id, ifMatch string, edit func(c *change, before *Document) error,
) (uint64, error) {
	caughtUp := false
	return l.rows.Write(ctx, func() (blobstore.Txn, error) {
		before, err := l.existing(ctx, account, id, ifMatch)
		// What this node does not know may have been written through another.
		if !caughtUp && (errors.Is(err, ErrNotFound) || errors.Is(err, ErrPrecondition)) {
			caughtUp = true
			if err := l.rows.Fresh(ctx); err != nil {
				return blobstore.Txn{}, err
			}
			before, err = l.existing(ctx, account, id, ifMatch)
		}
		if err != nil {
			return blobstore.Txn{}, err
		}
		c := l.newChange()
		if err := edit(c, before); err != nil {
			return blobstore.Txn{}, err
		}
		return c.Done()
	})
}

// existing is the document itself, if what it stands for has a wanted validator.
func (l *Library) existing(ctx context.Context, account, id, ifMatch string) (*Document, error) {
	before, err := l.current(ctx, account, id)
	if err != nil {
		return nil, err
	}
	etags, err := l.etags(ctx, before)
	if err == nil {
		err = checkConditions(ifMatch, "", etags...)
	}
	if err == nil && before == nil {
		err = fmt.Errorf("item %s/%s: %w", account, id, ErrNotFound)
	}
	return before, err
}
