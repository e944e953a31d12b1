package blobstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// formatFile says what a directory holds and in which format, in one line, so
// that a release which is too old finds that out before it touches anything.
// The versions of rows stay what they are: this one is about the whole.
const formatFile = "FORMAT"

// Formats of the two databases. A release reads its own and says so if what it
// finds is newer; when one is changed, the release that changes it also reads
// the one before.
const (
	// BlobsFormat is that of the blobs database: 2 has a value log of ours, where 1
	// had Badger's.
	BlobsFormat       = 2
	blobsFormatOldest = 1
	// CatalogFormat is that of the catalog database: 2 added weights and
	// tallies.
	CatalogFormat = 2
	// formatBytesMax bounds the line.
	formatBytesMax = 64
)

// checkFormat reads what a directory says of itself, or writes it into a new
// one. ErrFormat and an advice if it is not what this release reads.
func checkFormat(dir, what string, oldest, newest int) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("open %s: %w", what, err)
	}
	path := filepath.Join(dir, formatFile)
	raw, err := os.ReadFile(path) //nolint:gosec // below our own directory
	if errors.Is(err, fs.ErrNotExist) {
		return writeSynced(path, fmt.Sprintf("carillon %s %d\n", what, newest))
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", what, err)
	}
	var name string
	format := 0
	_, err = fmt.Sscanf(string(raw[:min(len(raw), formatBytesMax)]), "carillon %s %d", &name, &format)
	if err != nil || name != what || format < 1 {
		return fmt.Errorf("%s does not begin with \"carillon %s\": %w", path, what, ErrFormat)
	}
	switch {
	case format > newest:
		return fmt.Errorf("%s in %s are in format %d, this version reads up to %d, install a newer one: %w",
			what, dir, format, newest, ErrFormat)
	case format < oldest:
		return fmt.Errorf("%s in %s are in format %d, this version reads from %d on, "+
			"upgrade through an older one: %w", what, dir, format, oldest, ErrFormat)
	}
	return nil
}

// raiseFormat is checkFormat for a directory whose older formats this release goes
// on with: what it writes from now on they cannot read.
func raiseFormat(dir, what string, oldest, newest int) error {
	if err := checkFormat(dir, what, oldest, newest); err != nil {
		return err
	}
	path, line := filepath.Join(dir, formatFile), fmt.Sprintf("carillon %s %d\n", what, newest)
	raw, err := os.ReadFile(path) //nolint:gosec // below our own directory
	if err != nil {
		return fmt.Errorf("open %s: %w", what, err)
	}
	if string(raw) == line {
		return nil
	}
	return writeSynced(path, line)
}
