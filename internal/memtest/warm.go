package memtest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	// warmLeaveBytes of memory stay free, and no more than warmBytesMax is warmed.
	warmLeaveBytes = 512 << 20
	warmBytesMax   = 64 << 30
)

// Warm fills the page cache, as it is on a server that has run for a day, with
// the zeros of a file that has no blocks. Memory that a virtual machine has never used,
// or has given back to its host, costs 2 to 2.5 ms a MiB at the first touch: a write to a
// file does that then, and takes several times as long as all the rest of an upload.
func Warm(tb testing.TB) {
	tb.Helper()
	size := min(freeMemory(tb)-warmLeaveBytes, warmBytesMax)
	if size <= 0 {
		return
	}
	path := filepath.Join(tb.TempDir(), "zeros")
	f, err := os.Create(path) //nolint:gosec // in a directory of the test
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := f.Truncate(size); err != nil {
		tb.Fatal(err)
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, f, make([]byte, 1<<20)); err != nil {
		tb.Fatal(err)
	}
}

// freeMemory is what is in no use at all, in bytes.
func freeMemory(tb testing.TB) int64 {
	tb.Helper()
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kib int64
		if line := lines.Text(); strings.HasPrefix(line, "MemFree:") {
			if _, err := fmt.Sscanf(line, "MemFree: %d kB", &kib); err != nil {
				tb.Fatalf("%q: %v", line, err)
			}
			return kib << 10
		}
	}
	tb.Fatal("/proc/meminfo has no MemFree")
	return 0
}
