package blobstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/y"
	"google.golang.org/protobuf/proto"
)

// Badger answers a block of a table whose checksum fails as if its keys were not
// there, and a table that is cut short by ending the process. Neither must
// happen: what is not found here may be lost everywhere else by the next sweep.
// So the tables are checked before a database is opened, when it is, and by the
// scrub; a database that fails is put aside and built again, see DESIGN.md,
// "Damage".

const (
	// damagedMark in a database's directory says that it is not to be used.
	damagedMark = "DAMAGED"
	// asidePrefix starts the names of what was put aside.
	asidePrefix = "damaged-"
	// tableFooterMax bounds what a table's footer may claim: an index has some
	// 100 bytes for a block of 4 KiB.
	tableFooterMax = 1 << 30
)

// SetAside renames a directory to DIR.damaged-TIME, durably, and returns the new
// name: it may be all that is left of something, and is never deleted by us.
func SetAside(dir string, now time.Time) (string, error) {
	return setAside(dir, filepath.Dir(dir), filepath.Base(dir)+"."+asidePrefix, now)
}

func setAside(dir, into, prefix string, now time.Time) (string, error) {
	aside := filepath.Join(into, prefix+now.UTC().Format("20060102T150405.000"))
	if err := os.Rename(dir, aside); err != nil {
		return "", fmt.Errorf("put aside: %w", err)
	}
	return aside, syncPath(into)
}

// openDatabase opens a database whose tables are all readable. ErrCorrupt: they
// are not, or it cannot be opened for no reason that the operating system gives.
func openDatabase(opts badger.Options) (*badger.DB, error) {
	if err := errors.Join(checkFiles(opts.Dir), checkManifest(opts)); err != nil {
		return nil, err
	}
	db, err := badger.OpenManaged(opts)
	if err != nil {
		return nil, openError(opts.Dir, err)
	}
	if err := checkTables(db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// openError tells damage from what a person can mend.
func openError(dir string, err error) error {
	if errors.Is(err, os.ErrPermission) || strings.Contains(err.Error(), "lock") ||
		strings.Contains(err.Error(), "no space") {
		return err
	}
	if _, serr := os.Stat(filepath.Join(dir, badger.ManifestFilename)); errors.Is(serr, os.ErrNotExist) {
		if entries, rerr := os.ReadDir(dir); rerr == nil && len(entries) == 0 {
			return err // it was to be made
		}
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// checkFiles looks at what Badger would trip over while it opens.
func checkFiles(dir string) error {
	if reason, err := os.ReadFile(filepath.Join(dir, damagedMark)); err == nil { //nolint:gosec // our own
		return fmt.Errorf("%w: %s", ErrCorrupt, strings.TrimSpace(string(reason)))
	}
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil {
		return fmt.Errorf("check tables: %w", err)
	}
	for _, name := range tables {
		if err := checkFooter(name); err != nil {
			return fmt.Errorf("table %s: %w", filepath.Base(name), err)
		}
	}
	return nil
}

// checkManifest looks at the list of the tables: Badger deletes the tables that
// it does not name. A list whose end is torn is what a power cut leaves while a
// table is being added, whose rows are in a write-ahead file still; without such
// a file it is damage.
func checkManifest(opts badger.Options) error {
	files := func(pattern string) []string {
		all, _ := filepath.Glob(filepath.Join(opts.Dir, pattern)) // the pattern is well formed
		return all
	}
	f, err := os.Open(filepath.Join(opts.Dir, badger.ManifestFilename))
	if errors.Is(err, os.ErrNotExist) {
		if n := len(files("*.sst")) + len(files("*.vlog")) + len(files("*.mem")); n > 0 {
			return fmt.Errorf("%d files and no %s: %w", n, badger.ManifestFilename, ErrCorrupt)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	_, end, err := badger.ReplayManifestFile(f, opts.ExternalMagicVersion, opts)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w: %w", badger.ManifestFilename, ErrCorrupt, err)
	case end < info.Size() && len(files("*.mem")) == 0:
		return fmt.Errorf("%s ends at %d of %d: %w", badger.ManifestFilename, end, info.Size(), ErrCorrupt)
	}
	return nil
}

// checkFooter checks the index of a table: index, its length, its checksum,
// that one's length; lengths in big endian at the end of the file.
func checkFooter(name string) error {
	f, err := os.Open(name) //nolint:gosec // below our own directory
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	end := info.Size()
	take := func(n int64) []byte {
		if err != nil || n < 0 || n > tableFooterMax || n > end {
			err = errors.Join(err, fmt.Errorf("footer of %d bytes at %d: %w", n, end, ErrCorrupt))
			return make([]byte, 4)
		}
		p := make([]byte, n)
		end -= n
		if _, rerr := f.ReadAt(p, end); rerr != nil && !errors.Is(rerr, io.EOF) {
			err = rerr
		}
		return p
	}
	length := func() int64 { return int64(binary.BigEndian.Uint32(take(4))) }
	raw := take(length())
	index := take(length())
	if err != nil {
		return err
	}
	var sum pb.Checksum
	if err := proto.Unmarshal(raw, &sum); err != nil {
		return fmt.Errorf("footer: %w: %w", ErrCorrupt, err)
	}
	if err := y.VerifyChecksum(index, &sum); err != nil {
		return fmt.Errorf("index: %w: %w", ErrCorrupt, err)
	}
	return nil
}

// checkTables reads every block and index of every table.
func checkTables(db *badger.DB) (err error) {
	defer func() {
		// Badger 4.9 follows a nil pointer on its way to report the bad block.
		if p := recover(); p != nil {
			err = fmt.Errorf("a block of a table: %w", ErrCorrupt)
		}
	}()
	if err := db.VerifyChecksum(); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return checkIndexes(db)
}

// Look reads all tables if there was a reason to doubt them since the last time,
// and says whether there was. ErrCorrupt: one is damaged, and keys in it are not
// found any more. Without an error a compaction may have left some out.
func (s *Store) Look() (doubted bool, err error) {
	if err := s.gate.enter(); err != nil {
		return false, err
	}
	defer s.gate.leave()
	seen, doubted := s.trust.doubted()
	if !doubted {
		return false, nil
	}
	if err := checkTables(s.db); err != nil {
		return true, err
	}
	s.trust.renew(seen)
	return true, nil
}

// CheckTables reads every block and index of every table. ErrCorrupt: as Look.
func (s *Store) CheckTables() error { return s.check(checkTables) }

// CheckIndexes reads the indexes of the tables. ErrCorrupt: as Look.
func (s *Store) CheckIndexes() error { return s.check(checkIndexes) }

func (s *Store) check(tables func(*badger.DB) error) error {
	if err := s.gate.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	return tables(s.db)
}

// Condemn says that the database is not to be opened again as it is.
func (s *Store) Condemn(reason string) error {
	return writeSynced(filepath.Join(s.cfg.Dir, damagedMark), reason+"\n")
}

// Condemn says that the catalog is to be built again at the next start.
func (c *CatalogStore) Condemn(reason string) error {
	return writeSynced(filepath.Join(c.cfg.Dir, c.current.Load().name, damagedMark), reason+"\n")
}

// putAside gives up the generation named, which cannot be opened, and returns
// the name of an empty one that is in use instead: the owner of a replayed
// catalog builds it again from snapshot and log.
func (c *CatalogStore) putAside(name string, why error) (string, error) {
	n, err := generationNumber(name)
	if err != nil {
		return "", err
	}
	aside, err := setAside(filepath.Join(c.cfg.Dir, name), c.cfg.Dir, asidePrefix, time.Now())
	if err != nil {
		return "", err
	}
	c.log.Error("catalog is damaged: put aside, and built again from snapshot and log",
		"error", why, "aside", aside)
	next := fmt.Sprintf("%s%d", generationPrefix, n+1)
	return next, c.setCurrent(next)
}

// putAllAside gives up all generations, because which is in use cannot be read,
// and returns the name of an empty one that is in use instead.
func (c *CatalogStore) putAllAside(why error) (string, error) {
	entries, err := os.ReadDir(c.cfg.Dir)
	if err != nil {
		return "", fmt.Errorf("open catalog: %w", err)
	}
	name := generationPrefix + "1"
	for _, e := range entries {
		if _, err := generationNumber(e.Name()); err != nil {
			continue
		}
		if name, err = c.putAside(e.Name(), why); err != nil {
			return "", err
		}
	}
	return name, c.setCurrent(name)
}
