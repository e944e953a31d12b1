package gossip

import (
	"errors"
	"fmt"

	"github.com/hashicorp/memberlist"
)

// Sentinels, compared with errors.Is.
var (
	// ErrMetadata is returned when metadata is too long or cannot be read.
	ErrMetadata = errors.New("bad gossip metadata")
	// ErrConfig is returned when Open is given something that cannot work.
	ErrConfig = errors.New("bad gossip configuration")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("gossip is closed")
)

// The metadata of a node: a format byte, then strings with a length byte, in
// the order of fields. A later version may add strings at the end; what it
// adds is skipped here, and what an earlier one lacks is empty.
const (
	metaFormat   = 1
	metaFieldMax = 255
)

// fields are the strings of the metadata, in wire order: add at the end only.
func fields(m *Member) []*string {
	return []*string{&m.Peer, &m.HTTP, &m.Shout, &m.Cluster, &m.Zone, &m.Version, &m.Disk, &m.Weight, &m.Format}
}

func encodeMeta(m Member) ([]byte, error) {
	b := []byte{metaFormat}
	for _, f := range fields(&m) {
		if len(*f) > metaFieldMax {
			return nil, fmt.Errorf("field of %d bytes: %w", len(*f), ErrMetadata)
		}
		b = append(b, byte(len(*f)))
		b = append(b, *f...)
	}
	if len(b) > memberlist.MetaMaxSize {
		return nil, fmt.Errorf("%d bytes, at most %d: %w", len(b), memberlist.MetaMaxSize, ErrMetadata)
	}
	return b, nil
}

// decodeMeta sets the fields of m that the metadata holds.
func decodeMeta(b []byte, m *Member) error {
	if len(b) == 0 || len(b) > memberlist.MetaMaxSize || b[0] != metaFormat {
		return fmt.Errorf("%d bytes: %w", len(b), ErrMetadata)
	}
	next, b := *m, b[1:]
	for _, f := range fields(&next) {
		*f = ""
		if len(b) == 0 {
			continue
		}
		n := 1 + int(b[0])
		if len(b) < n {
			return fmt.Errorf("cut short: %w", ErrMetadata)
		}
		*f, b = string(b[1:n]), b[n:]
	}
	*m = next
	return nil
}
