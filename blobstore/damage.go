package blobstore

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"
)

// Badger answers a block of a table whose checksum fails as if its keys were not
// there, and a table that is cut short by ending the process. Neither must
// happen: what is not found here may be lost everywhere else by the next sweep.
// So the tables are checked before a database is opened, and by the scrub; a
// database that fails is put aside and built again, see DESIGN.md, "Damage".

const (
	// damagedMark in a database's directory says that it is not to be used.
	damagedMark = "DAMAGED"
	// asidePrefix starts the names of what was put aside.
	asidePrefix = "damaged-"
)

// SetAside renames a directory to DIR.damaged-TIME, durably, and returns the new
// name: it may be all that is left of something, and is never deleted by us.
func SetAside(dir string, now time.Time) (string, error) {
	return setAside(dir, filepath.Dir(dir), filepath.Base(dir)+"."+asidePrefix, now)
}

func setAside(dir, into, prefix string, now time.Time) (string, error) {
	aside := filepath.Join(into, prefix+asideTime(now))
	if err := os.Rename(dir, aside); err != nil {
		return "", fmt.Errorf("put aside: %w", err)
	}
	return aside, syncPath(into)
}

func asideTime(now time.Time) string { return now.UTC().Format("20060102T150405.000") }

// openDatabase opens a database whose tables are all readable. ErrCorrupt: they
// are not, or it cannot be opened for no reason that the operating system gives.
//
// The tables are read before Badger has them: its compactions begin at once, and
// one that meets certain damage ends the process, which would do so again and again.
func openDatabase(opts badger.Options, log *slog.Logger) (*badger.DB, error) {
	if reason, err := os.ReadFile(filepath.Join(opts.Dir, damagedMark)); err == nil {
		return nil, fmt.Errorf("%w: %s", ErrCorrupt, strings.TrimSpace(string(reason)))
	}
	tables, err := checkManifest(opts)
	if err != nil {
		return nil, err
	}
	for id := range tables {
		if err := checkTable(table.NewFilename(id, opts.Dir)); err != nil {
			return nil, fmt.Errorf("table %06d: %w", id, err)
		}
	}
	if err := salvageAll(opts.Dir, log); err != nil {
		return nil, err
	}
	db, err := badger.OpenManaged(opts)
	if err != nil {
		return nil, openError(opts.Dir, err)
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

// checkManifest looks at the list of the tables: Badger deletes the tables that
// it does not name. A list whose end is torn is what a power cut leaves while a
// table is being added, whose rows are in a write-ahead file still; without such
// a file it is damage. It returns the tables that it names, by number.
func checkManifest(opts badger.Options) (map[uint64]badger.TableManifest, error) {
	files := func(pattern string) []string {
		all, _ := filepath.Glob(filepath.Join(opts.Dir, pattern)) // the pattern is well formed
		return all
	}
	f, err := os.Open(filepath.Join(opts.Dir, badger.ManifestFilename))
	if errors.Is(err, os.ErrNotExist) {
		if n := len(files("*.sst")) + len(files("*.vlog")) + len(files("*.mem")); n > 0 {
			return nil, fmt.Errorf("%d files and no %s: %w", n, badger.ManifestFilename, ErrCorrupt)
		}
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	m, end, err := badger.ReplayManifestFile(f, opts.ExternalMagicVersion, opts)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w: %w", badger.ManifestFilename, ErrCorrupt, err)
	case end < info.Size() && len(files("*.mem")) == 0:
		return nil, fmt.Errorf("%s ends at %d of %d: %w", badger.ManifestFilename, end, info.Size(), ErrCorrupt)
	}
	return m.Tables, nil
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
