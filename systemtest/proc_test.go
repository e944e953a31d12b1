package systemtest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// clockTick is the unit of the times in /proc/PID/stat: USER_HZ, which Linux
// has fixed at 100 on all machines that Go runs on.
const clockTick = 10 * time.Millisecond

// usage is what some processes have used so far.
type usage struct {
	cpu     time.Duration
	written int64 // bytes that went, or will go, to the disk
	rss     int64 // resident bytes
	anon    int64 // those of them that are of no file
}

func (u usage) minus(before usage) usage {
	return usage{u.cpu - before.cpu, u.written - before.written, u.rss, u.anon}
}

func (u usage) plus(v usage) usage {
	return usage{u.cpu + v.cpu, u.written + v.written, u.rss + v.rss, u.anon + v.anon}
}

// usageOf adds up the processes.
func usageOf(tb testing.TB, pids ...int) usage {
	tb.Helper()
	var sum usage
	for _, pid := range pids {
		u, err := processUsage(pid)
		if err != nil {
			tb.Fatalf("usage of process %d: %v", pid, err)
		}
		sum = sum.plus(u)
	}
	return sum
}

func processUsage(pid int) (usage, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return usage{}, err
	}
	// The name in parentheses may hold spaces; utime is the 12th field after.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return usage{}, fmt.Errorf("stat of %d fields", len(fields))
	}
	var numbers [2]int64
	for i, field := range []string{fields[11], fields[12]} {
		if numbers[i], err = strconv.ParseInt(field, 10, 64); err != nil {
			return usage{}, err
		}
	}
	statm, err := os.ReadFile(filepath.Join(dir, "statm"))
	if err != nil {
		return usage{}, err
	}
	var pages, resident, ofFiles int64
	if _, err := fmt.Sscan(string(statm), &pages, &resident, &ofFiles); err != nil {
		return usage{}, err
	}
	written, err := writtenBytes(dir)
	return usage{
		cpu:     time.Duration(numbers[0]+numbers[1]) * clockTick,
		written: written,
		rss:     resident * int64(os.Getpagesize()),
		anon:    (resident - ofFiles) * int64(os.Getpagesize()),
	}, err
}

func writtenBytes(dir string) (int64, error) {
	text, err := os.ReadFile(filepath.Join(dir, "io"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			return strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		}
	}
	return 0, os.ErrNotExist
}

// children are the processes that pid has started.
func children(pid int) ([]int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil, err
	}
	var pids []int
	for field := range strings.FieldsSeq(string(text)) {
		child, err := strconv.Atoi(field)
		if err != nil {
			return nil, err
		}
		pids = append(pids, child)
	}
	return pids, nil
}
