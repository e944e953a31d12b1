package blobstore

import (
	"context"
	"encoding/binary"
	"sync/atomic"
)

// ShardOf is the shard of a blob. Ids are random, so their first bytes are.
func ShardOf(id ID, shards int) int {
	return int(binary.BigEndian.Uint64(id[:8]) % uint64(shards))
}

// BlobCount is how many blobs there are, and their contiguous bytes.
type BlobCount struct{ Blobs, Bytes int64 }

// bin counts the blobs of one shard.
type bin struct{ blobs, bytes atomic.Int64 }

type bins []bin

// counted notes that a blob came or went, or changed its size.
func (s *Store) counted(id ID, blobs, bytes int64) {
	s.blobs.Add(blobs)
	s.bytes.Add(bytes)
	all := *s.bins.Load()
	b := &all[ShardOf(id, len(all))]
	b.blobs.Add(blobs)
	b.bytes.Add(bytes)
}

// Count is what this store holds of a shard. The number of shards is that of
// StoreConfig, or of the last CountBy.
func (s *Store) Count(shard int) BlobCount {
	all := *s.bins.Load()
	if shard < 0 || shard >= len(all) {
		return BlobCount{}
	}
	return BlobCount{all[shard].blobs.Load(), all[shard].bytes.Load()}
}

// CountBy makes Count know so many shards. If that is another number than
// before, all blobs are counted anew, and changes wait for that.
func (s *Store) CountBy(ctx context.Context, shards int) error {
	s.lanes.take(allLanes)
	defer s.lanes.leave(allLanes)
	if len(*s.bins.Load()) == shards {
		return nil
	}
	counts := make(bins, shards)
	if s.blobs.Load() > 0 {
		for info, err := range s.Blobs(ctx) {
			if err != nil {
				return err
			}
			b := &counts[ShardOf(info.ID, shards)]
			b.blobs.Add(1)
			b.bytes.Add(info.Size)
		}
	}
	s.bins.Store(&counts)
	return nil
}
