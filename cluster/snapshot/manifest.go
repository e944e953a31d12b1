package snapshot

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"time"

	"carillon/blobstore"
	"carillon/cluster/wire"
)

// A manifest is the snapshot of a blob group: the list of its blobs, without
// their bytes.
//
//	"CBM1" | entries: 0x01 id[16] sealed[1] size[8] sha256[32] root[4] live[1] created[8] |
//	0x00 count[8] crc32c[4]
//
// Numbers are big endian, times milliseconds. The checksum covers all before it.

const (
	manifestMagic = "CBM1"
	manifestEntry = byte(1)
	manifestEnd   = byte(0)
	entryBytes    = 16 + 1 + 8 + 32 + 4 + 1 + 8
)

func castagnoli() hash.Hash32 { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }

// WriteManifest lists the blobs of one group.
func WriteManifest(w io.Writer, store *blobstore.Store, owns func(blobstore.ID) bool) error {
	sum := castagnoli()
	out := bufio.NewWriter(io.MultiWriter(w, sum))
	_, _ = out.WriteString(manifestMagic) // bufio keeps the first error for Flush
	var n uint64
	for info, err := range store.Blobs(context.Background()) {
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		if !owns(info.ID) {
			continue
		}
		_, _ = out.Write(appendEntry(nil, info))
		n++
	}
	_ = out.WriteByte(manifestEnd)
	_, _ = out.Write(binary.BigEndian.AppendUint64(nil, n))
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	_, err := w.Write(binary.BigEndian.AppendUint32(nil, sum.Sum32()))
	return err //nolint:wrapcheck // the caller says what it wrote
}

func appendEntry(b []byte, i blobstore.Info) []byte {
	b = append(b, manifestEntry)
	b = append(b, i.ID[:]...)
	b = append(b, wire.Flag(i.Sealed))
	b = binary.BigEndian.AppendUint64(b, uint64(i.Size))
	b = append(b, i.Totals.SHA256[:]...)
	b = binary.BigEndian.AppendUint32(b, i.Totals.Root)
	b = append(b, wire.Flag(i.Spec.Live))
	return binary.BigEndian.AppendUint64(b, uint64(i.Spec.Created.UnixMilli()))
}

// Manifest reads a manifest entry by entry.
type Manifest struct {
	r   *bufio.Reader
	sum hash.Hash32
	n   uint64
}

// OpenManifest begins to read a manifest; ErrFormat: it is none.
func OpenManifest(r io.Reader) (*Manifest, error) {
	m := &Manifest{r: bufio.NewReader(r), sum: castagnoli()}
	head := make([]byte, len(manifestMagic))
	if err := m.read(head); err != nil {
		return nil, err
	}
	if string(head) != manifestMagic {
		return nil, fmt.Errorf("manifest: %w", blobstore.ErrFormat)
	}
	return m, nil
}

func (m *Manifest) read(p []byte) error {
	if _, err := io.ReadFull(m.r, p); err != nil {
		// io.EOF must not be wrapped: it means "after the last entry" here.
		return fmt.Errorf("manifest cut short (%s): %w", err.Error(), blobstore.ErrCorrupt)
	}
	_, _ = m.sum.Write(p) // a hash never fails
	return nil
}

// Next returns the next entry, or io.EOF after the last if count and checksum
// hold. What was read before an error must not be trusted.
func (m *Manifest) Next() (blobstore.Info, error) {
	var b [entryBytes]byte
	if err := m.read(b[:1]); err != nil {
		return blobstore.Info{}, err
	}
	if b[0] == manifestEnd {
		return blobstore.Info{}, m.finish()
	}
	if err := m.read(b[:]); err != nil {
		return blobstore.Info{}, err
	}
	m.n++
	var i blobstore.Info
	copy(i.ID[:], b[0:16])
	i.Sealed = b[16] == 1
	i.Size = int64(binary.BigEndian.Uint64(b[17:25]))
	copy(i.Totals.SHA256[:], b[25:57])
	i.Totals.Root = binary.BigEndian.Uint32(b[57:61])
	i.Totals.Size = i.Size
	i.Spec.Live = b[61] == 1
	i.Spec.Created = time.UnixMilli(int64(binary.BigEndian.Uint64(b[62:70]))).UTC()
	return i, nil
}

func (m *Manifest) finish() error {
	var b [8]byte
	if err := m.read(b[:]); err != nil {
		return err
	}
	want := m.sum.Sum32()
	var c [4]byte
	if err := m.read(c[:]); err != nil {
		return err
	}
	if binary.BigEndian.Uint64(b[:]) != m.n || binary.BigEndian.Uint32(c[:]) != want {
		return fmt.Errorf("manifest of %d blobs: %w", m.n, blobstore.ErrCorrupt)
	}
	return io.EOF
}
