package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// A file of bbolt: pages, each with a head (id u64, flags u16, count u16, overflow u32: how
// many pages it goes on for). The first two are meta pages (behind the head magic, version,
// page size, flags, all u32; root u64, sequence u64, list of free pages u64, number of pages
// u64, transaction u64, and the FNV-1a of these). See page.go and db.go of bbolt v1.3.
const (
	boltMagic     = 0xED0CDAED
	boltHead      = 16
	boltMetaBytes = boltHead + 4*4 + 6*8
	boltPageMax   = 64 << 10

	boltKindAt, boltCountAt, boltMoreAt = 8, 10, 12        // in a page
	boltSizeAt, boltRootAt, boltFreeAt  = 8, 16, 32        // behind the head of a meta page
	boltPagesAt, boltTxAt, boltSumAt    = 40, 48, 56       // the same
	boltBranch, boltLeaf, boltFree      = 0x01, 0x02, 0x10 // flags of pages
	boltElement, boltBucket             = 16, 0x01         // bytes of one in a branch or leaf; flag of one
)

var errPage = errors.New("not what bbolt writes")

// checkMetaStore refuses a meta store that bbolt would not survive: it maps the file, and
// what is not there ends the process, as does a key beyond its page; to free a page that
// says that it is four thousand million long takes all memory. Pages that are in no use
// are not looked at: a power cut may have torn them.
func checkMetaStore(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "wal-meta.db")) //nolint:gosec // in our own directory
	if errors.Is(err, os.ErrNotExist) || err == nil && len(b) == 0 {
		if left, _ := filepath.Glob(filepath.Join(dir, "*.wal")); len(left) > 0 { // raft-wal would delete them
			return fmt.Errorf("%d segments and no meta store: %w", len(left), ErrDamaged)
		}
		return nil
	}
	if errors.Is(err, syscall.EIO) { // a sector of the disk is gone
		return fmt.Errorf("meta store: %w: %w", ErrDamaged, err)
	}
	if err != nil {
		return fmt.Errorf("meta store: %w", err)
	}
	if err := newBoltFile(b).check(); err != nil {
		return fmt.Errorf("meta store: %w: %w", ErrDamaged, err)
	}
	return nil
}

// boltFile is the contents of a file of bbolt.
type boltFile struct {
	b     []byte
	size  int             // of a page: that of the machine that made it
	pages uint64          // in the file
	used  map[uint64]bool // pages that were visited
}

func newBoltFile(b []byte) *boltFile {
	f := &boltFile{b: b, size: os.Getpagesize(), used: make(map[uint64]bool)}
	if len(b) >= boltMetaBytes && binary.NativeEndian.Uint32(b[boltHead:]) == boltMagic {
		size := int(binary.NativeEndian.Uint32(b[boltHead+boltSizeAt:]))
		if size&(size-1) == 0 && size >= boltMetaBytes && size <= boltPageMax {
			f.size = size
		}
	}
	f.pages = uint64(len(b) / f.size)
	return f
}

// check visits all that the newest meta page leads to.
func (f *boltFile) check() error {
	meta := f.newest()
	if meta == nil {
		return fmt.Errorf("no meta page: %w", errPage)
	}
	if pages := binary.NativeEndian.Uint64(meta[boltPagesAt:]); pages > f.pages {
		return fmt.Errorf("%d bytes, and %d pages: %w", len(f.b), pages, errPage)
	}
	if err := f.visit(binary.NativeEndian.Uint64(meta[boltRootAt:]), boltBranch, boltLeaf); err != nil {
		return err
	}
	return f.visit(binary.NativeEndian.Uint64(meta[boltFreeAt:]), boltFree)
}

// newest is the meta page that bbolt goes by, without its head; nil if none is whole.
func (f *boltFile) newest() []byte {
	var newest []byte
	var last uint64
	for _, at := range []int{0, f.size} {
		if len(f.b) < at+boltMetaBytes {
			break
		}
		meta := f.b[at+boltHead : at+boltMetaBytes]
		sum := fnv.New64a()
		_, _ = sum.Write(meta[:boltSumAt]) // never fails
		tx := binary.NativeEndian.Uint64(meta[boltTxAt:])
		if binary.NativeEndian.Uint32(meta) == boltMagic && (newest == nil || tx > last) &&
			sum.Sum64() == binary.NativeEndian.Uint64(meta[boltSumAt:]) {
			newest, last = meta, tx
		}
	}
	return newest
}

// visit looks at a page of one of some kinds, and at those that it leads to.
func (f *boltFile) visit(id uint64, kinds ...uint16) error {
	if id < 2 || id >= f.pages {
		return fmt.Errorf("page %d of %d: %w", id, f.pages, errPage)
	}
	b := f.b[int(id)*f.size:]
	kind, more := binary.NativeEndian.Uint16(b[boltKindAt:]), uint64(binary.NativeEndian.Uint32(b[boltMoreAt:]))
	if says := binary.NativeEndian.Uint64(b); says != id || id+more >= f.pages || !slices.Contains(kinds, kind) {
		return fmt.Errorf("page %d says that it is %d and %d more, of kind %d: %w", id, says, more, kind, errPage)
	}
	for n := id; n <= id+more; n++ {
		if f.used[n] {
			return fmt.Errorf("page %d is in use twice: %w", n, errPage)
		}
		f.used[n] = true
	}
	page := b[:(int(more)+1)*f.size]
	var err error
	switch kind {
	case boltLeaf:
		err = f.leaf(page, false)
	case boltBranch:
		err = f.branch(page)
	default:
		err = f.free(page)
	}
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

// leaf looks at elements of a leaf: flags, where the key is from here, its length and that
// of the value, all u32. One that lies within a value has no buckets.
func (f *boltFile) leaf(page []byte, inline bool) error {
	for i := range int(binary.NativeEndian.Uint16(page[boltCountAt:])) {
		at := boltHead + boltElement*i
		if at+boltElement > len(page) {
			return fmt.Errorf("element %d: %w", i, errPage)
		}
		key := uint64(at) + uint64(binary.NativeEndian.Uint32(page[at+4:]))
		value := key + uint64(binary.NativeEndian.Uint32(page[at+8:]))
		end := value + uint64(binary.NativeEndian.Uint32(page[at+12:]))
		if end > uint64(len(page)) {
			return fmt.Errorf("element %d ends at %d: %w", i, end, errPage)
		}
		if binary.NativeEndian.Uint32(page[at:])&boltBucket == 0 {
			continue
		}
		if inline {
			return fmt.Errorf("element %d is a bucket: %w", i, errPage)
		}
		if err := f.bucket(page[value:end]); err != nil {
			return fmt.Errorf("bucket %d: %w", i, err)
		}
	}
	return nil
}

// bucket looks at a bucket: root and sequence, both u64, and a leaf if there is no root.
func (f *boltFile) bucket(b []byte) error {
	const head = 16
	switch {
	case len(b) < head:
		return errPage
	case binary.NativeEndian.Uint64(b) != 0:
		return f.visit(binary.NativeEndian.Uint64(b), boltBranch, boltLeaf)
	case len(b) < head+boltHead || binary.NativeEndian.Uint16(b[head+boltKindAt:]) != boltLeaf:
		return errPage
	}
	return f.leaf(b[head:], true)
}

// branch looks at elements of a branch: where the key is from here and its length, both
// u32, and a page, u64.
func (f *boltFile) branch(page []byte) error {
	for i := range int(binary.NativeEndian.Uint16(page[boltCountAt:])) {
		at := boltHead + boltElement*i
		if at+boltElement > len(page) ||
			uint64(at)+uint64(binary.NativeEndian.Uint32(page[at:]))+
				uint64(binary.NativeEndian.Uint32(page[at+4:])) > uint64(len(page)) {
			return fmt.Errorf("element %d: %w", i, errPage)
		}
		if err := f.visit(binary.NativeEndian.Uint64(page[at+8:]), boltBranch, boltLeaf); err != nil {
			return err
		}
	}
	return nil
}

// free looks at the list of free pages: they ascend, and are in no use.
func (f *boltFile) free(page []byte) error {
	last := uint64(1) // the meta pages are never free
	for i := range int(binary.NativeEndian.Uint16(page[boltCountAt:])) {
		at := boltHead + 8*i
		if at+8 > len(page) {
			return fmt.Errorf("element %d: %w", i, errPage)
		}
		id := binary.NativeEndian.Uint64(page[at:])
		if id <= last || id >= f.pages || f.used[id] {
			return fmt.Errorf("page %d is free after %d: %w", id, last, errPage)
		}
		last = id
	}
	return nil
}
