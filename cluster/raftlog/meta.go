package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
)

// What raft keeps beside the log: its term and its vote.
const (
	keyTerm     = "CurrentTerm"
	keyVoteTerm = "LastVoteTerm"
	keyVote     = "LastVoteCand"
)

// codecMeta and segments say which codec was used: raft-wal v0.4.0 notes its own
// whatever it is given, and refuses the log at the next start.
type codecMeta struct{ *metadb.BoltMetaDB }

// CommitState writes down which segments there are.
func (m codecMeta) CommitState(state types.PersistentState) error {
	state.Segments = slices.Clone(state.Segments)
	for i := range state.Segments {
		state.Segments[i].Codec = checkedCodecID
	}
	return m.BoltMetaDB.CommitState(state) //nolint:wrapcheck // raft-wal compares this error
}

// Load reads which segments there are, and tries the store by writing that again. A
// damaged list of free pages is not looked at before the first write, which then
// panics, or takes a page that is in use: better here, where a panic is damage, than
// in the midst of an election.
func (m codecMeta) Load(dir string) (types.PersistentState, error) {
	state, err := m.BoltMetaDB.Load(dir)
	if err != nil || len(state.Segments) == 0 {
		return state, err //nolint:wrapcheck // raft-wal compares this error
	}
	before, err := m.stable()
	if err != nil {
		return state, err
	}
	if err := m.BoltMetaDB.CommitState(state); err != nil {
		return state, err //nolint:wrapcheck // as above
	}
	for i, key := range stableKeys() {
		if before[i] == nil {
			continue
		}
		if err := m.SetStable([]byte(key), before[i]); err != nil {
			return state, err //nolint:wrapcheck // as above
		}
	}
	again, err := m.BoltMetaDB.Load(dir)
	if err != nil {
		return state, err //nolint:wrapcheck // as above
	}
	after, err := m.stable()
	if err == nil && (!reflect.DeepEqual(again, state) || !slices.EqualFunc(after, before, bytes.Equal)) {
		err = fmt.Errorf("meta store does not keep what it is given: %w", ErrDamaged)
	}
	return state, err
}

func stableKeys() []string { return []string{keyTerm, keyVoteTerm, keyVote} }

// stable is what raft keeps, in the order of stableKeys; nil for what there is not.
func (m codecMeta) stable() (values [][]byte, err error) {
	for _, key := range stableKeys() {
		value, err := m.GetStable([]byte(key))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		values = append(values, value)
	}
	return values, nil
}

// The head of a page of bbolt (id u64, flags u16, count u16, overflow u32) and of
// its two meta pages behind that (magic, version, page size, flags, all u32; root
// u64 and u64, free list u64, number of pages u64, transaction u64, checksum).
const (
	boltMagic     = 0xED0CDAED
	boltPageHead  = 16
	boltPagesAt   = boltPageHead + 4*4 + 3*8
	boltMetaBytes = boltPagesAt + 3*8

	boltKindAt, boltCountAt, boltMoreAt      = 8, 10, 12
	boltBranch, boltLeaf, boltMeta, boltFree = 0x01, 0x02, 0x04, 0x10 // flags of a page
	boltElement, boltBucket                  = 16, 0x01               // of a branch or leaf; flag of one
)

// checkMetaStore refuses a meta store that is shorter than it says, or that has a page
// where another should be, or one that goes on beyond the end: bbolt maps the file, and
// what is not there ends the process; and to free a page that says that it is four
// thousand million long takes all memory.
func checkMetaStore(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "wal-meta.db")) //nolint:gosec // in our own directory
	if errors.Is(err, os.ErrNotExist) || err == nil && len(b) == 0 {
		if left, _ := filepath.Glob(filepath.Join(dir, "*.wal")); len(left) > 0 { // raft-wal would delete them
			return fmt.Errorf("%d segments and no meta store: %w", len(left), ErrDamaged)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("meta store: %w", err)
	}
	size := boltPageBytes(b)
	for _, at := range []int{0, size} {
		if len(b) < at+boltMetaBytes || binary.NativeEndian.Uint32(b[at+boltPageHead:]) != boltMagic {
			continue
		}
		if pages := binary.NativeEndian.Uint64(b[at+boltPagesAt:]); pages > uint64(len(b)/size) {
			return fmt.Errorf("meta store of %d bytes says %d pages: %w", len(b), pages, ErrDamaged)
		}
	}
	pages := uint64(len(b) / size)
	for number := range pages {
		if err := checkPage(b[int(number)*size:], number, pages, size); err != nil {
			return fmt.Errorf("page %d of the meta store: %w: %w", number, ErrDamaged, err)
		}
	}
	return nil
}

// boltPageBytes is the size of the file's pages: that of the machine that made it.
func boltPageBytes(b []byte) int {
	const most = 64 << 10
	if len(b) >= boltMetaBytes && binary.NativeEndian.Uint32(b[boltPageHead:]) == boltMagic {
		size := int(binary.NativeEndian.Uint32(b[boltPageHead+8:]))
		if size&(size-1) == 0 && size > boltMetaBytes && size <= most {
			return size
		}
	}
	return os.Getpagesize()
}

var errPage = errors.New("not what bbolt writes")

// checkPage looks at a page, behind which the rest of the file follows: at its head, and
// where it leads to. Pages that are in no use any more pass, too.
func checkPage(b []byte, number, pages uint64, size int) error {
	kind := binary.NativeEndian.Uint16(b[boltKindAt:])
	if !slices.Contains([]uint16{boltBranch, boltLeaf, boltMeta, boltFree}, kind) {
		return nil // never written, or what a longer page goes on with
	}
	id, more := binary.NativeEndian.Uint64(b), uint64(binary.NativeEndian.Uint32(b[boltMoreAt:]))
	if id != number || number+more >= pages {
		return fmt.Errorf("it says that it is %d and %d more: %w", id, more, errPage)
	}
	page := b[:(int(more)+1)*size]
	switch kind {
	case boltLeaf:
		return checkLeaf(page, pages)
	case boltBranch:
		return checkBranch(page, pages)
	case boltFree:
		return checkFree(page, pages)
	}
	return nil
}

// checkLeaf looks at elements of a leaf: flags, where the key is, its length and that of
// the value, all u32. A bucket among them is a page, or a leaf within the value.
func checkLeaf(page []byte, pages uint64) error {
	for i := range int(binary.NativeEndian.Uint16(page[boltCountAt:])) {
		at := boltPageHead + boltElement*i
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
		if err := checkBucket(page[value:end], pages); err != nil {
			return fmt.Errorf("bucket %d: %w", i, err)
		}
	}
	return nil
}

// checkBucket looks at a bucket: root and sequence, u64, and a leaf if there is no root.
func checkBucket(b []byte, pages uint64) error {
	const head = 16
	switch {
	case len(b) < head || binary.NativeEndian.Uint64(b) >= pages:
		return errPage
	case binary.NativeEndian.Uint64(b) != 0:
		return nil
	case len(b) < head+boltPageHead || binary.NativeEndian.Uint16(b[head+boltKindAt:]) != boltLeaf:
		return errPage
	}
	return checkLeaf(b[head:], pages)
}

// checkBranch looks at elements of a branch: where the key is and its length, u32, and a
// page, u64.
func checkBranch(page []byte, pages uint64) error {
	for i := range int(binary.NativeEndian.Uint16(page[boltCountAt:])) {
		at := boltPageHead + boltElement*i
		if at+boltElement > len(page) || binary.NativeEndian.Uint64(page[at+8:]) >= pages ||
			uint64(at)+uint64(binary.NativeEndian.Uint32(page[at:]))+
				uint64(binary.NativeEndian.Uint32(page[at+4:])) > uint64(len(page)) {
			return fmt.Errorf("element %d: %w", i, errPage)
		}
	}
	return nil
}

// checkFree looks at a list of free pages, which ascends.
func checkFree(page []byte, pages uint64) error {
	last := uint64(1) // the meta pages are never free
	for i := range int(binary.NativeEndian.Uint16(page[boltCountAt:])) {
		at := boltPageHead + 8*i
		if at+8 > len(page) {
			return fmt.Errorf("element %d: %w", i, errPage)
		}
		free := binary.NativeEndian.Uint64(page[at:])
		if free <= last || free >= pages {
			return fmt.Errorf("page %d is free after %d: %w", free, last, errPage)
		}
		last = free
	}
	return nil
}
