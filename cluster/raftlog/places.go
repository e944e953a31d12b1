package raftlog

import (
	"encoding/binary"
	"path/filepath"
	"sync"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"

	"carillon/blobstore"
)

// Where in its files a log has an entry raft-wal keeps to itself. The state machine can
// do with it: what an upload brings lies in the log durably, and need not be written a
// second time (blobstore/linked.go). So the layer of files below raft-wal reads along
// what is written: frames of 8 bytes of head (kind u8, 3 reserved, length or checksum
// u32, little endian) and the payload, padded to 8; a file begins with 32 bytes of its
// own. Source: raft-wal v0.4.0, segment/format.go, and codec.go for what begins an entry.

const (
	// placesMax is how many of the newest entries have a known place: between the write
	// of an entry and its turn in the state machine there are fewer.
	placesMax = 1024
	// placeBytesMin is the smallest entry whose place is noted.
	placeBytesMin = 16 << 10

	fileHeadBytes  = 32
	frameHeadBytes = 8
	frameEntry     = 1
	frameIndex     = 2
	frameCommit    = 3
)

// places are where the newest large entries lie.
type places struct {
	mu   sync.Mutex
	ring []placed // guarded by mu, by index modulo its length; nil before the first
}

type placed struct {
	index, term uint64
	file        *blobstore.LogFile
	off         int64
	n           int
}

// find says where the data of an entry lies.
func (p *places) find(l *raft.Log) (blobstore.Kept, bool) {
	if len(l.Data) < placeBytesMin {
		return blobstore.Kept{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ring == nil {
		return blobstore.Kept{}, false
	}
	at := p.ring[l.Index%placesMax]
	if at.index != l.Index || at.term != l.Term || at.n != len(l.Data) {
		return blobstore.Kept{}, false
	}
	return blobstore.Kept{File: at.file, Offset: at.off}, true
}

// note takes the place of an entry down; a small one takes that of what it overwrites away.
func (p *places) note(at placed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ring == nil {
		if at.n < placeBytesMin {
			return
		}
		p.ring = make([]placed, placesMax)
	}
	p.ring[at.index%placesMax] = at
}

// read reads what was written at off of a file, as far as it understands it.
func (p *places) read(file *blobstore.LogFile, b []byte, off int64) {
	if off == 0 && len(b) >= fileHeadBytes {
		b, off = b[fileHeadBytes:], fileHeadBytes
	}
	for len(b) >= frameHeadBytes {
		size := frameHeadBytes
		n := int64(binary.LittleEndian.Uint32(b[4:]))
		switch b[0] {
		case frameEntry, frameIndex:
			if n > int64(len(b)-frameHeadBytes) {
				return
			}
			size += int(n+7) &^ 7
		case frameCommit:
		default:
			return
		}
		if b[0] == frameEntry {
			at, ok := readEntryHead(b[frameHeadBytes : frameHeadBytes+n])
			if !ok {
				return
			}
			at.file, at.off = file, at.off+off+frameHeadBytes
			p.note(at)
		}
		if size > len(b) {
			return
		}
		b, off = b[size:], off+int64(size)
	}
}

// readEntryHead reads what BinaryCodec writes before the data of an entry: index, term,
// type and length. off is where the data begins.
func readEntryHead(b []byte) (at placed, ok bool) {
	var head [4]uint64
	for i := range head {
		v, n := binary.Uvarint(b[at.off:])
		if n <= 0 {
			return placed{}, false
		}
		head[i], at.off = v, at.off+int64(n)
	}
	if head[3] > uint64(int64(len(b))-at.off) {
		return placed{}, false
	}
	at.index, at.term, at.n = head[0], head[1], int(head[3])
	return at, true
}

// placing is a layer of files that notes where entries are written.
type placing struct {
	types.VFS

	places *places
	bytes  int64 // of a segment
}

// Create makes a file of size bytes.
func (v placing) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := v.VFS.Create(dir, name, size)
	return v.placed(f, err, filepath.Join(dir, name))
}

// OpenWriter opens a file that is there.
func (v placing) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := v.VFS.OpenWriter(dir, name)
	return v.placed(f, err, filepath.Join(dir, name))
}

func (v placing) placed(f types.WritableFile, err error, path string) (types.WritableFile, error) {
	if err != nil {
		return nil, err
	}
	return &placedFile{f, v.places, &blobstore.LogFile{Path: path, Bytes: v.bytes}}, nil
}

type placedFile struct {
	types.WritableFile

	places *places
	file   *blobstore.LogFile
}

// WriteAt writes, and notes what.
func (f *placedFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.WritableFile.WriteAt(p, off)
	if err == nil {
		f.places.read(f.file, p, off)
	}
	return n, err //nolint:wrapcheck // raft-wal compares this error
}

// Kept says where the data of an entry lies in the files of this log, if that is known.
// What lies there is durable once the log is on the disk up to the entry, is never
// overwritten, and goes with its file when the log is cut.
func (s *Store) Kept(l *raft.Log) (blobstore.Kept, bool) { return s.places.find(l) }
