package statefile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
)

// ErrDamaged is returned for a file that does not hold what was written.
var ErrDamaged = errors.New("file is damaged")

// checksumField is the end of an object, with eight digits for the sum.
const (
	checksumField = `,"checksum":"`
	checksumEnd   = `"}`
	checksumLen   = len(checksumField) + 2*crc32.Size + len(checksumEnd)
)

// Read reads a file; ErrDamaged: it is not what was written.
func Read(path string, v any) error {
	_, err := ReadChecked(path, v)
	return err
}

// ReadChecked also says whether there was a checksum.
func ReadChecked(path string, v any) (checked bool, err error) {
	b, err := os.ReadFile(path) //nolint:gosec // a fixed name in the data directory
	if err != nil {
		return false, fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	var text bytes.Buffer
	if err := json.Compact(&text, b); err != nil {
		return false, fmt.Errorf("%s: %w: %w", path, ErrDamaged, err)
	}
	body, sum := splitChecksum(text.Bytes())
	if sum != "" && sum != checksumOf(body) {
		return true, fmt.Errorf("%s: %w: its checksum is %s, not %s", path, ErrDamaged, checksumOf(body), sum)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if sum == "" { // a later version's fields come with a checksum; these could be a damaged one
		d.DisallowUnknownFields()
	}
	if err := d.Decode(v); err != nil {
		return sum != "", fmt.Errorf("%s: %w: %w", path, ErrDamaged, err)
	}
	return sum != "", nil
}

func checksumOf(body []byte) string {
	return fmt.Sprintf("%08x", crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
}

// splitChecksum takes the last field off an object; "": it is none.
func splitChecksum(text []byte) (body []byte, sum string) {
	at := len(text) - checksumLen
	if at < 1 || !bytes.HasPrefix(text[at:], []byte(checksumField)) {
		return text, ""
	}
	sum = string(text[at+len(checksumField) : len(text)-len(checksumEnd)])
	return append(bytes.Clone(text[:at]), '}'), sum
}

// Write replaces a file so that a crash leaves the old or the new.
func Write(path string, v any) (err error) {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	if end := len(b) - 1; len(b) > len("{}") && b[0] == '{' {
		b = append(append(b[:end:end], checksumField...), checksumOf(b)+checksumEnd...)
	}
	var text bytes.Buffer
	if err := json.Indent(&text, b, "", "  "); err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(f.Name())))
		}
	}()
	_, err = f.Write(text.Bytes())
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// Remove removes a file so that it stays removed after a power cut.
func Remove(path string) error {
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // below the data directory
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}
