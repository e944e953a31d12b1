package blobstore

import (
	"bytes"
	"os"
	"runtime/debug"
	"strconv"
	"testing"
)

// residentMaxBytes is what both databases may take of an idle node's 200 MiB.
const residentMaxBytes = 120 << 20

// An idle pair of databases is small.
func TestIdleMemory(t *testing.T) {
	rss := func() int {
		debug.FreeOSMemory()
		p, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		_, line, ok := bytes.Cut(p, []byte("RssAnon:"))
		if !ok {
			t.Fatal("no RssAnon in /proc/self/status")
		}
		kib, err := strconv.Atoi(string(bytes.Fields(line)[0]))
		if err != nil {
			t.Fatal(err)
		}
		return kib << 10
	}
	before := rss()
	openLocal(t)
	got := rss() - before
	t.Logf("two databases take %d MiB", got>>20)
	if got > residentMaxBytes {
		t.Errorf("two idle databases take %d MiB", got>>20)
	}
}
