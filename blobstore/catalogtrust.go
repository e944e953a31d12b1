package blobstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A catalog whose owner replays a durable log (CatalogConfig.Replayed) does not
// sync its writes: the log has them. What a crash of the process leaves is
// still exact, because the page cache belongs to the kernel. What a power cut
// leaves may have any hole, the applied index included, and is thrown away.
//
// Which of the two happened is told by a mark that is written when the catalog
// is opened and removed when it was closed in order: the boot of the machine
// and the identity of the directory. If it is there and names this boot and
// this directory, only the process died. See DESIGN.md, "Trust".

// openFile holds the mark while the catalog is open.
const openFile = "OPEN"

// bootIDFile names the boot of the machine (Linux, random(4)).
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// trusted says whether what the generation named holds may be used, and writes the
// mark for this time.
//
// Two write-ahead files are there if the process ended while one of them became a
// table. Badger says of neither whether it is whole, and rows that are missing at the
// end of the older one would be missed by nobody.
func (c *CatalogStore) trusted(name string) (bool, error) {
	now, err := c.mark()
	if err != nil {
		return false, err
	}
	logs, err := filepath.Glob(filepath.Join(c.cfg.Dir, name, "*.mem"))
	if err != nil {
		return false, fmt.Errorf("open catalog: %w", err)
	}
	path := filepath.Join(c.cfg.Dir, openFile)
	last, err := os.ReadFile(path) //nolint:gosec // below our own directory
	switch {
	case errors.Is(err, os.ErrNotExist):
		return true, writeSynced(path, now)
	case err != nil:
		return false, fmt.Errorf("open catalog: %w", err)
	}
	return string(last) == now && len(logs) <= 1, writeSynced(path, now)
}

// mark is the boot and the directory of this moment.
func (c *CatalogStore) mark() (string, error) {
	boot := c.cfg.BootID
	if boot == "" {
		raw, err := os.ReadFile(bootIDFile)
		if err != nil {
			return "", fmt.Errorf("identify this boot: %w", err)
		}
		boot = strings.TrimSpace(string(raw))
	}
	info, err := os.Stat(c.cfg.Dir)
	if err != nil {
		return "", fmt.Errorf("open catalog: %w", err)
	}
	dir := "?"
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		dir = strconv.FormatUint(st.Dev, 10) + ":" + strconv.FormatUint(st.Ino, 10)
	}
	return boot + " " + dir + "\n", nil
}

// distrust gives up what the directory named holds and returns the name of an
// empty one that is in use instead.
func (c *CatalogStore) distrust(name string) (string, error) {
	n, err := generationNumber(name)
	if err != nil {
		return "", err
	}
	c.log.Warn("catalog was open when the machine went down, or was writing a table when the process ended; " +
		"it is built again from snapshot and log")
	next := generationPrefix + strconv.FormatUint(n+1, 10)
	if err := c.setCurrent(next); err != nil {
		return "", err
	}
	return next, os.RemoveAll(filepath.Join(c.cfg.Dir, name))
}

// closedInOrder removes the mark, after the database has been closed, which
// syncs it.
func (c *CatalogStore) closedInOrder() error {
	if !c.cfg.Replayed {
		return nil
	}
	if err := syncPath(c.cfg.Dir); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(c.cfg.Dir, openFile)); err != nil {
		return fmt.Errorf("close catalog: %w", err)
	}
	return syncPath(c.cfg.Dir)
}

// writeSynced replaces a small file durably.
func writeSynced(path, text string) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	if err := syncPath(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return syncPath(filepath.Dir(path))
}
