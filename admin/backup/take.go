package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"carillon/library"
	"carillon/library/backup"
)

const (
	// fetchersMax is how many blobs are fetched at once: enough to hide the
	// round trips of small ones, few enough to leave calls alone.
	fetchersMax = 4
	// fetchTriesMax is how often a blob is tried: a node may restart meanwhile.
	fetchTriesMax = 5
	fetchAgain    = time.Second
)

// Source is a cluster to back up: the API's client.
type Source interface {
	Holder
	BackupRows(ctx context.Context, since uint64) (iter.Seq2[backup.Row, error], *uint64)
	BackupBlob(ctx context.Context, id string, offset int64) (backup.Blob, io.ReadCloser, error)
}

// Progress is told how far a transfer is: blobs and their bytes.
type Progress func(blobs, ofBlobs, bytes int64)

// Take backs the cluster of that id up into the directory. It may be interrupted
// and run again: what was fetched stays. keep is how many generations stay, at
// least one; 0: all.
func (d *Dir) Take(ctx context.Context, from Source, cluster string, keep int, progress Progress) (
	g Generation, err error,
) {
	if err := os.MkdirAll(d.file(blobsDir), 0o700); err != nil {
		return g, fmt.Errorf("backup: %w", err)
	}
	base, err := d.Newest()
	switch {
	case errors.Is(err, ErrNone):
	case err != nil:
		return g, err
	case base.Cluster != cluster:
		return g, fmt.Errorf("%s, this is %s: %w", base.Cluster, cluster, ErrForeign)
	}
	hold, err := from.HoldBackup(ctx, "")
	if err != nil {
		return g, fmt.Errorf("backup: %w", err)
	}
	ctx, release := keepHold(ctx, from, hold.ID)
	defer func() {
		if rerr := release(); rerr != nil && err == nil {
			err = fmt.Errorf("backup is complete, but its hold was not ended: %w", rerr)
		}
	}()
	g = Generation{Cluster: cluster, Since: base.Position, Taken: time.Now().UTC().Truncate(time.Second)}
	if err := d.takeRows(ctx, from, base, &g); err != nil {
		return g, cause(ctx, err)
	}
	if err := d.takeBlobs(ctx, from, base, &g, progress); err != nil {
		return g, cause(ctx, err)
	}
	if base.Position == g.Position && base.Cluster != "" { // nothing has happened since
		d.manifest.Generations = d.manifest.Generations[:len(d.manifest.Generations)-1]
	}
	d.manifest.Generations = append(d.manifest.Generations, g)
	if err := d.save(); err != nil {
		return g, err
	}
	return g, d.prune(keep)
}

// cause says why a context was ended, if that is behind err.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil && !errors.Is(err, c) {
		return fmt.Errorf("%w: %w", c, err)
	}
	return err
}

// takeRows merges what has changed into the catalog of the generation before.
func (d *Dir) takeRows(ctx context.Context, from Source, base Generation, g *Generation) error {
	catalog, err := d.create("catalog-new")
	if err != nil {
		return err
	}
	gone, err := d.create("deleted-new")
	if err != nil {
		return errors.Join(err, catalog.drop())
	}
	rows, position := from.BackupRows(ctx, base.Position)
	if err := d.mergeRows(rows, base, g, catalog, gone); err != nil {
		return errors.Join(err, catalog.drop(), gone.drop())
	}
	g.Position, g.Rows, g.Deleted = *position, catalog.n, gone.n
	catalog.name, gone.name = d.file(g.name("catalog")), d.file(g.name("deleted"))
	if gone.n == 0 {
		err = gone.drop()
	} else {
		_, err = gone.done()
	}
	if g.CatalogSHA256, err = firstError(err, catalog.done); err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	return nil
}

func firstError(err error, f func() (string, error)) (string, error) {
	text, ferr := f()
	return text, errors.Join(err, ferr)
}

func (d *Dir) mergeRows(
	rows iter.Seq2[backup.Row, error], base Generation, g *Generation, catalog, gone *lines,
) error {
	old := func() (backup.Row, error, bool) { return backup.Row{}, nil, false }
	if base.Cluster != "" {
		next, stop := iter.Pull2(d.rows(base))
		defer stop()
		old = next
	}
	m := merger{next: old, gone: gone}
	m.advance()
	for row, err := range rows {
		if err != nil {
			return fmt.Errorf("read the catalog: %w", err)
		}
		before, err := m.find(row.Key)
		switch {
		case err != nil:
			return err
		case row.Value != nil:
			g.Changed++
		case before == nil || before.Revision != row.Revision:
			return fmt.Errorf("row %q has not changed since %d, and is not in the backup of then: %w",
				row.Key, base.Position, ErrDamaged)
		default:
			row = *before
		}
		if err := catalog.add(row.Line()); err != nil {
			return err
		}
	}
	return m.rest()
}

// merger reads the catalog of the generation before beside the new one, and
// notes what is not in the new one.
type merger struct {
	next func() (backup.Row, error, bool)
	gone *lines
	row  backup.Row
	err  error
	more bool
}

func (m *merger) advance() { m.row, m.err, m.more = m.next() }

// drop notes the row in hand as gone.
func (m *merger) drop() error {
	err := m.gone.add(backup.Row{Key: m.row.Key, Revision: m.row.Revision}.Line())
	m.advance()
	return err
}

// find returns the row of that key, nil if there was none; those before it are
// gone.
func (m *merger) find(key string) (*backup.Row, error) {
	for m.more && m.err == nil && m.row.Key < key {
		if err := m.drop(); err != nil {
			return nil, err
		}
	}
	if !m.more || m.err != nil || m.row.Key != key {
		return nil, m.err
	}
	found := m.row
	m.advance()
	return &found, nil
}

// rest notes all that is left.
func (m *merger) rest() error {
	for m.more && m.err == nil {
		if err := m.drop(); err != nil {
			return err
		}
	}
	return m.err
}

// fetched is a blob that is in the directory, or why not.
type fetched struct {
	spec backup.Blob
	new  bool
	gone bool
	err  error
}

// takeBlobs fetches what the rows refer to and the directory lacks.
func (d *Dir) takeBlobs(
	ctx context.Context, from Source, base Generation, g *Generation, progress Progress,
) error {
	total := int64(0)
	for _, err := range references(d.rows(*g)) {
		if err != nil {
			return err
		}
		total++
	}
	index, err := d.create(g.name("blobs"))
	if err != nil {
		return err
	}
	if err := d.fetchAll(ctx, from, base, g, index, func() {
		if progress != nil {
			progress(g.Blobs, total, g.Bytes)
		}
	}); err != nil {
		return errors.Join(err, index.drop())
	}
	if g.BlobsSHA256, err = index.done(); err != nil {
		return fmt.Errorf("list of blobs: %w", err)
	}
	return nil
}

// fetchAll fetches several at once and lists them in their order.
func (d *Dir) fetchAll(
	ctx context.Context, from Source, base Generation, g *Generation, index *lines, progress func(),
) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	known, end := d.knownBlobs(base)
	defer end()
	queue := make(chan chan fetched, fetchersMax)
	failed := make(chan error, 1)
	go func() {
		defer close(queue)
		failed <- d.fetchInOrder(ctx, from, g, known, queue)
	}()
	var err error
	for slot := range queue {
		f := <-slot
		if err != nil {
			continue // let the others end
		}
		if err = f.err; err != nil {
			stop()
			continue
		}
		if f.gone {
			continue
		}
		if err = index.add(f.spec); err != nil {
			stop()
			continue
		}
		g.Blobs++
		g.Bytes += f.spec.Size
		if f.new {
			g.Fetched++
		}
		if !f.spec.Sealed {
			g.Open++
		}
		progress()
	}
	if ferr := <-failed; err == nil {
		err = ferr
	}
	return err
}

func (d *Dir) fetchInOrder(
	ctx context.Context, from Source, g *Generation, known func(id string) (backup.Blob, bool, error),
	queue chan<- chan fetched,
) error {
	for ref, err := range references(d.rows(*g)) {
		if err != nil {
			return err
		}
		spec, ok, err := known(ref.id)
		if err != nil {
			return err
		}
		slot := make(chan fetched, 1)
		select {
		case queue <- slot:
		case <-ctx.Done():
			return ctx.Err() //nolint:wrapcheck // the caller's own
		}
		if ok && spec.Sealed {
			slot <- fetched{spec: spec}
			continue
		}
		go func() { slot <- d.fetch(ctx, from, ref) }()
	}
	return nil
}

// knownBlobs looks blobs up in the list of the generation before: ids must be
// asked for in order. One whose file has gone is not known.
func (d *Dir) knownBlobs(base Generation) (func(id string) (backup.Blob, bool, error), func()) {
	if base.Cluster == "" {
		return func(string) (backup.Blob, bool, error) { return backup.Blob{}, false, nil }, func() {}
	}
	next, stop := iter.Pull2(d.blobs(base))
	spec, err, more := next()
	return func(id string) (backup.Blob, bool, error) {
		for more && err == nil && spec.ID < id {
			spec, err, more = next()
		}
		if err != nil || !more || spec.ID != id {
			return backup.Blob{}, false, err
		}
		info, serr := os.Stat(d.blobFile(id))
		return spec, serr == nil && info.Size() >= spec.Size, nil
	}, stop
}

// fetch brings a blob here, going on with what an interrupted try left.
func (d *Dir) fetch(ctx context.Context, from Source, ref reference) fetched {
	for try := 1; ; try++ {
		f := d.fetchOnce(ctx, from, ref.id)
		switch {
		case f.err == nil:
			return f
		case errors.Is(f.err, library.ErrNotFound) && !strings.HasPrefix(ref.holder, "m1/"):
			return fetched{gone: true} // a recording that was discarded meanwhile
		case errors.Is(f.err, library.ErrNotFound), errors.Is(f.err, library.ErrUnauthorized), try == fetchTriesMax:
			f.err = fmt.Errorf("blob %s of %q: %w", ref.id, ref.holder, f.err)
			return f
		}
		if !pause(ctx, fetchAgain) {
			return fetched{err: ctx.Err()}
		}
	}
}

func (d *Dir) fetchOnce(ctx context.Context, from Source, id string) (f fetched) {
	name := d.blobFile(id)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fetched{err: fmt.Errorf("backup: %w", err)}
	}
	part, have, err := d.resume(name)
	if err != nil {
		return fetched{err: err}
	}
	spec, body, err := from.BackupBlob(ctx, id, have)
	if err != nil {
		if errors.Is(err, library.ErrBadRequest) { // what is here is longer: not what it was
			err = errors.Join(err, part.Truncate(0))
		}
		return fetched{err: errors.Join(err, part.Close())}
	}
	_, err = io.Copy(part, io.LimitReader(body, spec.Size-have))
	if err = errors.Join(err, body.Close()); err != nil {
		return fetched{err: errors.Join(fmt.Errorf("fetch: %w", err), part.Close())}
	}
	sum, err := hashFile(name+partSuffix, spec.Size)
	if err == nil && spec.Sealed && sum != spec.SHA256 {
		err = fmt.Errorf("SHA-256 %s, want %s: %w", sum, spec.SHA256, ErrDamaged)
	}
	if err != nil {
		return fetched{err: errors.Join(err, part.Truncate(0), part.Close())}
	}
	spec.SHA256 = sum
	return fetched{spec: spec, new: true, err: finish(part, nil, name+partSuffix, name)}
}

// resume opens the unfinished file of a blob at its end. A whole file whose
// entry is not known, or that has grown since, is gone on with as well.
func (d *Dir) resume(name string) (*os.File, int64, error) {
	part := name + partSuffix
	if _, err := os.Stat(part); errors.Is(err, fs.ErrNotExist) {
		if err := copyFile(name, part); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, 0, fmt.Errorf("backup: %w", err)
		}
	}
	f, err := os.OpenFile(part, os.O_CREATE|os.O_WRONLY, 0o600) //nolint:gosec // below the operator's directory
	if err != nil {
		return nil, 0, fmt.Errorf("backup: %w", err)
	}
	have, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("backup: %w", err), f.Close())
	}
	return f, have, nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from) //nolint:gosec // below the operator's directory
	if err != nil {
		return err //nolint:wrapcheck // the caller does
	}
	defer func() { _ = in.Close() }()                                      // it was only read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // as above
	if err != nil {
		return err //nolint:wrapcheck // the caller does
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
