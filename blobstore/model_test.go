package blobstore

import (
	"bytes"
	"context"
	"io"

	"pgregory.net/rapid"
)

// model is a store as a map: what the contract says in the fewest words.
type model map[ID]*modelBlob

type modelBlob struct {
	live, sealed bool
	chunks       map[int64][]byte // by offset; a live blob has all in 0
	totals       Totals
}

// bytes are the contiguous ones.
func (b *modelBlob) bytes() []byte {
	if b.live {
		return b.chunks[0]
	}
	var p []byte
	for {
		next, ok := b.chunks[int64(len(p))]
		if !ok {
			return p
		}
		if p = append(p, next...); len(next) < ChunkBytesMax {
			return p
		}
	}
}

func (b *modelBlob) total() (n int64) {
	for _, c := range b.chunks {
		n += int64(len(c))
	}
	return n
}

func (m model) apply(op Op) error {
	b := m[op.ID]
	switch op.Kind {
	case OpBegin:
		switch {
		case b == nil:
			m[op.ID] = &modelBlob{live: op.Spec.Live, chunks: map[int64][]byte{}}
		case b.live != op.Spec.Live:
			return ErrConflict
		}
		return nil
	case OpRemove:
		delete(m, op.ID)
		return nil
	case OpPut:
		return m.put(op)
	case OpAppend, OpSeal:
		if b == nil {
			return ErrNotFound
		}
		if op.Kind == OpSeal {
			return b.seal(op.Totals)
		}
		if b.live {
			return b.appendLive(op)
		}
		return b.appendChunk(op)
	}
	return ErrConflict
}

func (m model) put(op Op) error {
	if b := m[op.ID]; b != nil {
		switch {
		case b.live != op.Spec.Live:
			return ErrConflict
		case b.sealed && b.totals != op.Totals:
			return ErrConflict
		case !b.sealed && b.total() > 0 && (TotalsOf(b.bytes()) != op.Totals || b.total() != op.Totals.Size):
			return ErrConflict
		}
	}
	m[op.ID] = &modelBlob{
		live: op.Spec.Live, sealed: true, totals: op.Totals,
		chunks: map[int64][]byte{0: bytes.Clone(op.Data)},
	}
	return nil
}

func (b *modelBlob) seal(t Totals) error {
	switch {
	case b.sealed && b.totals != t:
		return ErrConflict
	case !b.sealed && (TotalsOf(b.bytes()) != t || b.total() != t.Size):
		return ErrCorrupt
	}
	b.sealed, b.totals = true, t
	return nil
}

func (b *modelBlob) appendLive(op Op) error {
	have := b.chunks[0]
	if len(op.Data) > LivePieceBytesMax {
		return ErrTooLarge
	}
	if op.Offset > int64(len(have)) {
		return ErrGap
	}
	n := min(len(op.Data), len(have)-int(op.Offset))
	if !bytes.Equal(have[op.Offset:][:n], op.Data[:n]) {
		return ErrConflict
	}
	if n == len(op.Data) {
		return nil
	}
	if b.sealed {
		return ErrSealed
	}
	b.chunks[0] = append(bytes.Clone(have), op.Data[n:]...)
	return nil
}

func (b *modelBlob) appendChunk(op Op) error {
	if op.Offset%ChunkBytesMax != 0 {
		return ErrConflict
	}
	if len(op.Data) == 0 {
		return nil
	}
	if have, ok := b.chunks[op.Offset]; ok && len(have) > 0 {
		if !bytes.Equal(have, op.Data) {
			return ErrConflict
		}
		return nil
	}
	if b.sealed {
		return ErrSealed
	}
	for off, c := range b.chunks {
		if off < op.Offset && len(c) < ChunkBytesMax || off > op.Offset && len(op.Data) < ChunkBytesMax {
			return ErrConflict
		}
	}
	b.chunks[op.Offset] = bytes.Clone(op.Data)
	return nil
}

func (m model) check(t *rapid.T, s *Store) {
	n := 0
	for info, err := range s.Blobs(context.Background()) {
		if err != nil {
			t.Fatalf("list: %v", err)
		}
		n++
		b := m[info.ID]
		if b == nil {
			t.Fatalf("blob %v should be gone", info.ID)
		}
		want := b.bytes()
		if info.Size != int64(len(want)) || info.Sealed != b.sealed || info.Totals != b.totals {
			t.Fatalf("blob is %+v, want %d bytes, sealed %v", info, len(want), b.sealed)
		}
		r, err := s.Open(context.Background(), info.ID)
		if err != nil {
			t.Fatalf("open: %v", err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("read %d bytes, want %d: %v", len(got), len(want), err)
		}
		_ = r.Close()
	}
	if n != len(m) {
		t.Fatalf("%d blobs, want %d", n, len(m))
	}
	if st := s.Stats(); st.Blobs != int64(n) {
		t.Fatalf("stats count %d blobs of %d", st.Blobs, n)
	}
	checkCounts(t, s)
}
