package blobstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"time"
)

// Sizes that every replica must agree on: they are part of the format.
const (
	// ChunkBytesMax is the largest piece of a blob in one Raft entry. The
	// maximum that hashicorp/raft suggests for an entry is 512 KiB
	// (hashicorp/raft api.go:30); half of it keeps an AppendEntries of 16
	// entries at 4 MiB.
	ChunkBytesMax = 256 << 10
	// BlockBytes is the unit of integrity: each block of a blob carries a
	// CRC-32C, so a range read checks what it touches and nothing else.
	BlockBytes = 16 << 10
	// LivePieceBytesMax bounds one live append. A source of 320 kbit/s brings
	// 10 KB in a flush tick.
	LivePieceBytesMax = 64 << 10
)

// ID names a blob. It is made once, by whoever begins the blob, and never used
// again. It is a value: comparable, usable as a map key.
type ID [16]byte

// NewID returns a fresh random ID.
func NewID() ID {
	var id ID
	_, _ = rand.Read(id[:]) // never fails, see crypto/rand.Read
	return id
}

// Namer is a [Writer] that chooses the names of new blobs itself, because the
// name decides where a blob lives.
type Namer interface{ NewID() ID }

// NewIDFor returns a fresh ID for a blob that is to be written to w.
func NewIDFor(w Writer) ID {
	if n, ok := w.(Namer); ok {
		return n.NewID()
	}
	return NewID()
}

// ParseID reads the form that [ID.String] prints. It returns ErrBadID.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != hex.EncodedLen(len(id)) {
		return ID{}, fmt.Errorf("blob id of %d characters: %w", len(s), ErrBadID)
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return ID{}, fmt.Errorf("blob id: %w", ErrBadID)
	}
	return id, nil
}

// String returns 32 lower case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero says whether id is the zero ID, which names no blob.
func (id ID) IsZero() bool { return id == ID{} }

// Digest is a SHA-256 of the whole content of a blob.
type Digest [32]byte

// String returns 64 lower case hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Spec is what is known of a blob when it begins.
type Spec struct {
	// Live says that the blob grows in real time, in small appends, and is
	// read while it grows. A blob that is not live arrives in chunks cut at
	// multiples of ChunkBytesMax, in any order.
	Live bool
	// Created is when the proposer began the blob. Wall clock, UTC,
	// milliseconds.
	Created time.Time
}

// Totals is what is known of a blob when it is sealed.
type Totals struct {
	Size   int64
	SHA256 Digest
	// Root is the CRC-32C (Castagnoli) over the little endian CRC-32Cs of the
	// blob's blocks, in order; the last block may be short. A replica checks
	// it against the blocks it holds without reading the content again.
	Root uint32
}

// Info describes a blob as one node holds it.
type Info struct {
	ID      ID
	Spec    Spec
	Size    int64 // contiguous bytes from the start that can be read
	Sealed  bool
	Totals  Totals // valid if Sealed
	Updated time.Time
}

// Writer changes blobs. The local store implements it for one disk; the
// cluster implements it for all replicas, and there a nil error means that a
// majority of the blob's replicas has fsynced the change.
//
// All methods may be called concurrently, for the same blob too. All are
// idempotent: the same call again is success. All return ctx.Err() when ctx
// ends first; the change may then have happened or not, and repeating the call
// settles it.
type Writer interface {
	// Begin creates an open, empty blob. Again with the same Live flag:
	// success. With the other: ErrConflict.
	Begin(ctx context.Context, id ID, spec Spec) error
	// Append adds p at offset. p is not kept after the return and is not
	// changed.
	//
	// Upload blobs take whole chunks at multiples of ChunkBytesMax in any
	// order; only the last may be short. Live blobs take at most
	// LivePieceBytesMax at the current end. Bytes that are already there are
	// compared: equal is success, else ErrConflict. A gap in a live blob is
	// ErrGap; an unknown blob ErrNotFound; a sealed one takes nothing new:
	// ErrSealed.
	Append(ctx context.Context, id ID, offset int64, p []byte) error
	// Seal closes the blob with its totals. A replica that does not hold
	// exactly that (size or Root differ) answers ErrCorrupt and leaves it
	// open. Sealed with the same totals: success; with others: ErrConflict.
	Seal(ctx context.Context, id ID, totals Totals) error
	// Put is Begin, Append and Seal of a blob of at most ChunkBytesMax in one
	// step: the common prompt costs one Raft entry.
	Put(ctx context.Context, id ID, spec Spec, p []byte, totals Totals) error
	// Remove frees the blob. An unknown blob is success.
	Remove(ctx context.Context, id ID) error
}

// Joiner is a Writer that takes in one step what an upload does in a row at its
// beginning and at its end. Outcomes are those of the two calls; after an error
// the first may have happened alone, and repeating the call settles it.
type Joiner interface {
	Writer
	// Start is Begin, and Append of the first chunk.
	Start(ctx context.Context, id ID, spec Spec, p []byte) error
	// Finish is Append of the last chunk, and Seal. All others must have been
	// acknowledged.
	Finish(ctx context.Context, id ID, offset int64, p []byte, totals Totals) error
}

// Shelf reads blobs. The local store implements it for what it holds, the
// cluster for everything: local first, else a replica over the peer link.
type Shelf interface {
	// Open returns a Reader at the start of the blob, or ErrNotFound. The
	// caller must close it. A blob that is open can be read as far as it goes
	// and followed until it is sealed.
	Open(ctx context.Context, id ID) (*Reader, error)
	// Stat describes the blob, or ErrNotFound.
	Stat(ctx context.Context, id ID) (Info, error)
}

// View is what a store gives a [Reader] to read from: one blob, addressed by
// offset. Methods are called by one goroutine at a time, but Close may come
// while Wait blocks.
type View interface {
	// Info is the blob as last seen; it never goes backwards.
	Info() Info
	// Read copies bytes at off into p and returns how many: at least one
	// unless off is at or beyond the end, which is io.EOF. What it returns was
	// checked against its CRC; ErrCorrupt otherwise.
	Read(ctx context.Context, off int64, p []byte) (int, error)
	// Wait returns once the blob is longer than size or sealed, or with
	// ErrNotFound when it was removed, or with ctx.Err().
	Wait(ctx context.Context, size int64) (Info, error)
	// Close frees what the view holds. It may be called twice.
	Close() error
}

var _ io.ReadSeekCloser = (*Reader)(nil)
