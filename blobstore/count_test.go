package blobstore

import "context"

// checkCounts compares the counts of shards with what is there, for several
// numbers of shards.
func checkCounts(tb fataler, s *Store) {
	for _, shards := range []int{3, 1, 8, 256, 1} {
		if err := s.CountBy(context.Background(), shards); err != nil {
			tb.Fatalf("count by %d: %v", shards, err)
		}
		want := make([]BlobCount, shards)
		for info, err := range s.Blobs(context.Background()) {
			if err != nil {
				tb.Fatalf("blobs: %v", err)
			}
			c := &want[ShardOf(info.ID, shards)]
			c.Blobs++
			c.Bytes += info.Size
		}
		for shard := range want {
			if got := s.Count(shard); got != want[shard] {
				tb.Fatalf("shard %d of %d: %+v, want %+v", shard, shards, got, want[shard])
			}
		}
	}
	if s.Count(-1) != (BlobCount{}) || s.Count(1) != (BlobCount{}) {
		tb.Fatalf("a shard that is not counted has blobs")
	}
}
