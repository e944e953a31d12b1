package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// timerSlack is how late the kernel may wake the threads of a node, so that it can
// wake several at once. Nothing here needs a tenth of that precision, but Go's monitor
// thread sleeps for 20 µs again and again while others wait for a disk, which a node
// always does: with the kernel's slack of 50 µs that was a tenth of what a PUT costs, and
// a processor taken back from a thread that would have been done a moment later had to be
// woken elsewhere (BENCHMARKS.md, "Timers and garbage"). See prctl(2),
// PR_SET_TIMERSLACK.
const timerSlack = time.Millisecond

// gcPercent is how much the heap of a node may grow before it is collected, unless GOGC
// says otherwise. Most of what is live are the memtables of two databases, which have
// nothing to look through: collecting twice as often as Go would costs nothing that can be
// measured, and a node takes less memory (BENCHMARKS.md, "Timers and garbage").
const gcPercent = 50

// tuneProcess sets what a node wants of its process. What the kernel refuses costs speed,
// and nothing else.
func tuneProcess() error {
	err := relaxTimers()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	return err
}

// startsNode says whether a command line is of a command that runs nodes.
func startsNode(args []string) bool {
	return len(args) > 0 && (args[0] == "serve" || args[0] == "demo")
}

// relaxTimers gives all threads of the process the slack of a node. A thread has that
// of the one that made it, and Go's monitor thread is there before we are, so the
// program is started once more in the same process; then, and where the kernel
// refuses, relaxTimers returns.
func relaxTimers() error {
	runtime.LockOSThread() // the slack is the thread's, until it is the program's
	defer runtime.UnlockOSThread()
	if slack, err := threadSlack(); err != nil || slack >= timerSlack {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0); err != nil {
		return fmt.Errorf("set timer slack: %w", err)
	}
	if slack, err := threadSlack(); err != nil || slack < timerSlack {
		return err // or it would start for ever
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start again with timer slack: %w", err)
	}
	err = syscall.Exec(self, os.Args, os.Environ()) //nolint:gosec // it is this program
	return fmt.Errorf("start %s again with timer slack: %w", self, err)
}

// threadSlack is that of the calling thread.
func threadSlack() (time.Duration, error) {
	slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		return 0, fmt.Errorf("timer slack: %w", err)
	}
	return time.Duration(slack), nil
}
