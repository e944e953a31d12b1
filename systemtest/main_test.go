package systemtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

const (
	// envAppliance names the binary under test. It is set here for the tests,
	// or from outside to test one that was built in another way.
	envAppliance = "SYSTEMTEST_APPLIANCE"
	// envPipe makes the test binary a node of the bare pipe; see pipe_test.go.
	envPipe = "SYSTEMTEST_PIPE"
)

func TestMain(m *testing.M) {
	if os.Getenv(envPipe) != "" {
		os.Exit(pipeMain()) //nolint:forbidigo // TestMain is a main
	}
	if os.Getenv(envSwitch) != "" {
		os.Exit(switchMain(os.Args[1:])) //nolint:forbidigo // as above
	}
	code, err := runAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "systemtest:", err)
		code = 1
	}
	os.Exit(code) //nolint:forbidigo // as above
}

// runAll builds the appliance once and runs the tests with it.
func runAll(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "carillon-systemtest-")
	if err != nil {
		return 1, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if os.Getenv(envAppliance) == "" {
		binary := filepath.Join(dir, "appliance")
		if err := build(binary); err != nil {
			return 1, err
		}
		if err := os.Setenv(envAppliance, binary); err != nil {
			return 1, err
		}
	}
	if code = m.Run(); code == 0 {
		err = goleak.Find(goleak.IgnoreAnyFunction("github.com/hanwen/go-fuse/v2/fuse.(*Server).Serve"),
			goleak.IgnoreAnyFunction("github.com/hanwen/go-fuse/v2/fuse.(*Server).loop"))
	}
	return code, err
}

// build makes the appliance as the Makefile does, or with the race detector,
// which needs cgo, when the tests run under it.
func build(binary string, more ...string) error {
	args, cgo := []string{"build", "-trimpath", "-o", binary}, "CGO_ENABLED=0"
	if raceDetector {
		args, cgo = append(args, "-race"), "CGO_ENABLED=1"
	}
	args = append(append(args, more...), "carillon/cmd/appliance")
	cmd := exec.CommandContext(context.Background(), "go", args...)
	cmd.Env = append(os.Environ(), cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the appliance: %w\n%s", err, out)
	}
	return nil
}

// underTest is the appliance under test.
func underTest() string { return os.Getenv(envAppliance) }
