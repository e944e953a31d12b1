package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"carillon/blobstore"
)

// flip changes a bit of what a node has stored of body at off, in its value
// log, where the running node reads it.
func flip(t *testing.T, n *testNode, body []byte, off int) {
	t.Helper()
	mark := body[off : off+64]
	files, err := filepath.Glob(filepath.Join(n.dir, "blobs", "values", "*.vlog"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.LastIndex(b, mark) // a repaired chunk is there twice
		if at < 0 {
			continue
		}
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt([]byte{b[at] ^ 1}, int64(at))
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("bytes at %d not found in %v", off, files)
}

// damaged are the chunks of a blob that a node cannot read.
func damaged(ctx context.Context, n *testNode, id blobstore.ID) error {
	bad, err := n.blobs.Scrub(ctx, id, func(context.Context, int) error { return nil })
	if err == nil && len(bad) > 0 {
		err = fmt.Errorf("damage at %v", bad)
	}
	return err
}

func whole(t *testing.T, id blobstore.ID, nodes ...*testNode) {
	t.Helper()
	for _, n := range nodes {
		eventually(t, "blob whole on "+filepath.Base(n.dir), func() error {
			if info, err := n.blobs.Stat(t.Context(), id); err != nil || !info.Sealed {
				return errors.Join(err, errBehind) // a follower may have its first chunk only
			}
			return damaged(t.Context(), n, id)
		})
	}
}

// Goal: what a read finds damaged is served from a replica and repaired, on one
// node and on two; what all have lost is said.
func TestReadRepairs(t *testing.T) {
	nodes := startCluster(t, 3, func(c *Config) { c.ScrubBytes = -1 })
	body := noise(7, 5*blobstore.ChunkBytesMax+1000)
	id := mustUpload(t, nodes[0], "item", body)
	whole(t, id, nodes...)
	ctx, cancel := context.WithTimeout(t.Context(), 4*testWait) // of many reads, each through a repair
	defer cancel()
	flip(t, nodes[1], body, 100)
	flip(t, nodes[1], body, 3*blobstore.ChunkBytesMax+70_000)
	flip(t, nodes[2], body, 100)
	flip(t, nodes[2], body, 4*blobstore.ChunkBytesMax+10)
	for _, n := range nodes {
		if err := checkItem(ctx, n, "item", body); err != nil {
			t.Fatalf("read of a damaged copy: %v", err)
		}
	}
	whole(t, id, nodes...)
	eventually(t, "the status says so", func() error {
		if s := nodes[1].LocalStatus().Scrub; s.Corrupt != 1 || s.Repaired != 1 || s.Waiting != 0 {
			return fmt.Errorf("status %+v", s)
		}
		return nil
	})
	for _, n := range nodes {
		flip(t, n, body, 200)
	}
	eventually(t, "the loss is said", func() error {
		if err := checkItem(ctx, nodes[0], "item", body); err == nil {
			t.Fatal("a blob that is damaged everywhere was read")
		}
		if s := nodes[0].LocalStatus().Scrub; s.Waiting == 0 || s.Fault == "" {
			return fmt.Errorf("status %+v", s)
		}
		return nil
	})
}

// Goal: the scrub finds damage that nobody reads, also in merged recordings, and
// goes on where it was after a restart.
func TestScrubRepairs(t *testing.T) {
	nodes := startCluster(t, 3, func(c *Config) {
		c.ScrubBytes, c.ScrubWait = 1<<30, 50*time.Millisecond
	})
	body := noise(8, 2*blobstore.ChunkBytesMax)
	id := mustUpload(t, nodes[0], "item", body)
	whole(t, id, nodes...)
	flip(t, nodes[2], body, blobstore.ChunkBytesMax+5)
	whole(t, id, nodes...)
	n := nodes[2]
	eventually(t, "repaired", func() error {
		if s := n.LocalStatus().Scrub; s.Repaired != 1 || s.Finished == nil || s.Bytes == 0 {
			return fmt.Errorf("status %+v", s)
		}
		return nil
	})
	n.close(t)
	if _, err := os.Stat(filepath.Join(n.dir, scrubFile)); err != nil {
		t.Error(err)
	}
}
