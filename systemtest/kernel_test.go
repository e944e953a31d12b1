package systemtest

import (
	"errors"
	"syscall"
	"testing"
)

// needsKernel ends a test that the kernel does not let happen: no root, or no
// such device in this container. That is no tool which could be installed, so
// the test is left out, and says so; any other error fails it.
func needsKernel(tb testing.TB, err error) {
	tb.Helper()
	for _, missing := range []error{
		syscall.EPERM, syscall.EACCES, syscall.ENOENT, syscall.ENODEV, syscall.ENOSYS,
	} {
		if errors.Is(err, missing) {
			tb.Skipf("left out: %v", err)
		}
	}
	tb.Fatal(err)
}
