package backup

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"carillon/blobstore"
	"carillon/library/backup"
)

const (
	// format is the version of everything in the directory.
	format = 1
	// manifestFile names the generations. It is written last.
	manifestFile = "backup.json"
	blobsDir     = "blobs"
	partSuffix   = ".part"
	// lineBytesMax bounds a line of a file: a row in base64.
	lineBytesMax = 1 << 20
	// fileBufferBytes is one read or write of a file.
	fileBufferBytes = 64 << 10
)

// Errors of this package, compared with errors.Is.
var (
	// ErrForeign is returned for a directory with the backup of another cluster.
	ErrForeign = errors.New("the directory holds a backup of another cluster")
	// ErrDamaged is returned for files that are not what was backed up.
	ErrDamaged = errors.New("the backup is damaged")
	// ErrNone is returned for a directory without a backup.
	ErrNone = errors.New("no backup here")
)

// Generation is one backup.
type Generation struct {
	Cluster  string    `json:"cluster"`
	Position uint64    `json:"position"` // log position of the catalog
	Since    uint64    `json:"since,omitempty"`
	Taken    time.Time `json:"taken"`
	Rows     int64     `json:"rows"`
	Changed  int64     `json:"changed"` // rows that are new or changed since
	Deleted  int64     `json:"deleted"` // rows that are gone since
	Blobs    int64     `json:"blobs"`
	Fetched  int64     `json:"fetched"` // blobs that were not in the directory
	Bytes    int64     `json:"bytes"`   // of all blobs
	Open     int64     `json:"open,omitempty"`
	// Hashes of the two files, SHA-256 in hexadecimal.
	CatalogSHA256 string `json:"catalog_sha256"`
	BlobsSHA256   string `json:"blobs_sha256"`
}

func (g *Generation) name(what string) string { return fmt.Sprintf("%s-%016x.jsonl", what, g.Position) }

// manifest is backup.json.
type manifest struct {
	Format      int          `json:"format"`
	Generations []Generation `json:"generations"`
}

// Dir is a directory of backups.
type Dir struct {
	path     string
	manifest manifest
}

// OpenDir reads what the directory holds; none yet is no error.
func OpenDir(path string) (*Dir, error) {
	d := &Dir{path: path, manifest: manifest{Format: format}}
	b, err := os.ReadFile(d.file(manifestFile))
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read backup: %w", err)
	}
	if err := json.Unmarshal(b, &d.manifest); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", manifestFile, ErrDamaged, err)
	}
	if d.manifest.Format != format {
		return nil, fmt.Errorf("%s has format %d, this program knows %d: %w", manifestFile, d.manifest.Format,
			format, blobstore.ErrFormat)
	}
	return d, nil
}

// Generations are the backups in the directory, the newest last.
func (d *Dir) Generations() []Generation { return d.manifest.Generations }

// Newest is the last backup. ErrNone: there is none.
func (d *Dir) Newest() (Generation, error) {
	if n := len(d.manifest.Generations); n > 0 {
		return d.manifest.Generations[n-1], nil
	}
	return Generation{}, fmt.Errorf("%s: %w", d.path, ErrNone)
}

// At is the backup of that position.
func (d *Dir) At(position uint64) (Generation, error) {
	for _, g := range d.manifest.Generations {
		if g.Position == position {
			return g, nil
		}
	}
	return Generation{}, fmt.Errorf("%s at position %d: %w", d.path, position, ErrNone)
}

func (d *Dir) file(name string) string { return filepath.Join(d.path, name) }

// blobFile is where the bytes of a blob lie.
func (d *Dir) blobFile(id string) string { return filepath.Join(d.path, blobsDir, id[:2], id) }

// save replaces the manifest.
func (d *Dir) save() error {
	b, err := json.MarshalIndent(d.manifest, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", manifestFile, err)
	}
	part := d.file(manifestFile + partSuffix)
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // the operator's
	if err != nil {
		return fmt.Errorf("write %s: %w", manifestFile, err)
	}
	_, err = f.Write(append(b, '\n'))
	return finish(f, err, part, d.file(manifestFile))
}

// finish makes a written file durable under its name.
func finish(f *os.File, err error, part, name string) error {
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(name), err)
	}
	if err := os.Rename(part, name); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// lines writes a file of JSON lines and hashes it.
type lines struct {
	f    *os.File
	buf  *bufio.Writer
	enc  *json.Encoder
	sum  hash.Hash
	part string
	name string
	n    int64
}

func (d *Dir) create(name string) (*lines, error) {
	l := &lines{part: d.file(name + partSuffix), name: d.file(name), sum: sha256.New()}
	var err error
	if l.f, err = os.OpenFile(l.part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600); err != nil {
		return nil, fmt.Errorf("write backup: %w", err)
	}
	l.buf = bufio.NewWriterSize(io.MultiWriter(l.f, l.sum), fileBufferBytes)
	l.enc = json.NewEncoder(l.buf)
	l.enc.SetEscapeHTML(false)
	return l, nil
}

func (l *lines) add(v any) error {
	l.n++
	if err := l.enc.Encode(v); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return nil
}

// done makes the file durable and returns its hash.
func (l *lines) done() (string, error) {
	err := finish(l.f, l.buf.Flush(), l.part, l.name)
	return hex.EncodeToString(l.sum.Sum(nil)), err
}

// drop forgets a file that is not to be.
func (l *lines) drop() error { return errors.Join(l.f.Close(), os.Remove(l.part)) }

// read yields the lines of a file as JSON; want is its hash, "": not checked.
func read[T any](path, want string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		f, err := os.Open(path) //nolint:gosec // the operator names the directory
		if err != nil {
			yield(zero, fmt.Errorf("read backup: %w: %w", ErrDamaged, err))
			return
		}
		defer func() { _ = f.Close() }() // it was only read
		sum := sha256.New()
		in := bufio.NewScanner(io.TeeReader(bufio.NewReaderSize(f, fileBufferBytes), sum))
		in.Buffer(nil, lineBytesMax)
		for in.Scan() {
			var v T
			if err := json.Unmarshal(in.Bytes(), &v); err != nil {
				yield(zero, fmt.Errorf("%s: %w: %w", filepath.Base(path), ErrDamaged, err))
				return
			}
			if !yield(v, nil) {
				return
			}
		}
		if err := in.Err(); err != nil {
			yield(zero, fmt.Errorf("%s: %w: %w", filepath.Base(path), ErrDamaged, err))
		} else if got := hex.EncodeToString(sum.Sum(nil)); want != "" && got != want {
			yield(zero, fmt.Errorf("%s has SHA-256 %s, want %s: %w", filepath.Base(path), got, want, ErrDamaged))
		}
	}
}

// rows yields the catalog of a generation.
func (d *Dir) rows(g Generation) iter.Seq2[backup.Row, error] {
	return func(yield func(backup.Row, error) bool) {
		for l, err := range read[backup.Line](d.file(g.name("catalog")), g.CatalogSHA256) {
			if !yield(l.Row(), err) || err != nil {
				return
			}
		}
	}
}

// blobs yields what a generation knows of its blobs.
func (d *Dir) blobs(g Generation) iter.Seq2[backup.Blob, error] {
	return read[backup.Blob](d.file(g.name("blobs")), g.BlobsSHA256)
}

// references yields the ids of the blobs that rows refer to, each once, in order,
// with the first key that does.
func references(rows iter.Seq2[backup.Row, error]) iter.Seq2[reference, error] {
	return func(yield func(reference, error) bool) {
		last := ""
		for row, err := range rows {
			if err != nil {
				yield(reference{}, err)
				return
			}
			rest, ok := strings.CutPrefix(row.Key, blobstore.RefPrefix)
			if !ok {
				continue
			}
			id, holder, _ := strings.Cut(rest, "/")
			if _, err := blobstore.ParseID(id); err != nil {
				yield(reference{}, fmt.Errorf("row %q: %w: %w", row.Key, ErrDamaged, err))
				return
			}
			if id == last {
				continue
			}
			last = id
			if !yield(reference{id, holder}, nil) {
				return
			}
		}
	}
}

// reference is a blob and who uses it.
type reference struct{ id, holder string }

// hashFile hashes the first size bytes of a file. ErrDamaged: it is shorter, or
// not there.
func hashFile(path string, size int64) (string, error) {
	f, err := os.Open(path) //nolint:gosec // below the operator's directory
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer func() { _ = f.Close() }() // it was only read
	sum := sha256.New()
	if n, err := io.CopyN(sum, f, size); err != nil {
		return "", fmt.Errorf("%s has %d of %d bytes: %w: %w", filepath.Base(path), n, size, ErrDamaged, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
