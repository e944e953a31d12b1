package blobstore

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

// dropLeftover removes what a power cut leaves of a write-ahead or value-log file
// that was being made: a name without a byte. Badger 4.9 takes it for a new file
// where it expects an old one, and does not open ("Create a new file"). It held
// nothing that was synced, or its length would have been, too.
func dropLeftover(dir string, log *slog.Logger) error {
	var files []string
	for _, pattern := range []string{"*.mem", "*.vlog"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return fmt.Errorf("look for leftovers: %w", err)
		}
		files = append(files, found...)
	}
	for _, path := range files {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("look for leftovers: %w", err)
		}
		if info.Size() > 0 {
			continue
		}
		log.Warn("an empty file is left from a power cut", "file", path)
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove leftover: %w", err)
		}
	}
	d, err := os.Open(dir) //nolint:gosec // our own directory
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for leftovers: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}
