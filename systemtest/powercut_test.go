package systemtest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bootID is where Linux names the boot of a machine.
const bootID = "/proc/sys/kernel/random/boot_id"

// power is a node's disk and plug.
type power struct {
	t       *testing.T
	n       *Node
	disk    *lossyDisk
	unmount func()
	boots   int
}

// plugIn gives a node, which does not run, a disk whose power can be cut.
func plugIn(t *testing.T, n *Node) *power {
	t.Helper()
	p := &power{t: t, n: n, disk: newLossyDisk()}
	p.disk.strict = true
	if err := os.MkdirAll(p.dir(), 0o700); err != nil {
		t.Fatal(err)
	}
	p.unmount = p.disk.mount(t, p.dir())
	n.spawn = p.boot
	t.Cleanup(func() { // a disk that is in use cannot be unmounted
		if n.cmd != nil && n.cmd.Process != nil {
			_ = n.cmd.Process.Kill()
			<-n.done
		}
		p.unmount()
	})
	return p
}

func (p *power) dir() string { return filepath.Join(p.n.dir, "data") }

// boot starts the process as after a boot of its machine: with another boot id,
// which it gets in a mount namespace of its own.
func (p *power) boot(cmd *exec.Cmd) error {
	p.boots++
	file := filepath.Join(p.n.dir, "boot_id")
	id := fmt.Sprintf("%08d-0000-4000-8000-%012d\n", p.n.index, p.boots)
	if err := os.WriteFile(file, []byte(id), 0o600); err != nil {
		return err
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // given up with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = unix.Mount(file, bootID, "", unix.MS_BIND, "")
		}
		if err == nil {
			err = forgetOtherDisks(p.dir())
		}
		if err == nil {
			err = cmd.Start()
		}
		done <- err
	}()
	return <-done
}

// forgetOtherDisks takes the disks of other nodes out of this namespace: a copy
// of a mount would keep it alive when it is unmounted.
func forgetOtherDisks(own string) error {
	text, err := os.ReadFile("/proc/thread-self/mounts")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[2] != "fuse.lossy" || fields[1] == own {
			continue
		}
		if err := unix.Unmount(fields[1], unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", fields[1], err)
		}
	}
	return nil
}

// cut stops the machine between two instructions, and its disk.
func (p *power) cut() {
	p.n.Pause()
	p.disk.cut()
}

// off takes the machine away after a cut.
func (p *power) off() {
	p.n.Kill9()
	p.unmount()
}

// on brings it back: what was not synced is there with the probability keep.
func (p *power) on(rnd *rand.Rand, keep float64) {
	before := p.disk.lost
	p.disk.restore(rnd, keep)
	p.t.Logf("node %d: the cut took %d pages and names", p.n.index+1, p.disk.lost-before)
	p.unmount = p.disk.mount(p.t, p.dir())
	p.n.Restart()
}

// needsDiskOfOurOwn ends a test where it cannot have one.
func needsDiskOfOurOwn(t *testing.T) {
	t.Helper()
	if fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil || os.Geteuid() != 0 {
		needsKernel(t, fmt.Errorf("a disk of our own, as user %d: %w",
			os.Geteuid(), cmp.Or(err, error(unix.EPERM))))
	} else if err := fuse.Close(); err != nil {
		t.Fatal(err)
	}
}

// linkedItems of a MiB fill more than a file of each raft log.
const linkedItems = 56

// TestPowerCut cuts the power of one node, and of all at once, while clients
// upload and record: first nothing that was not synced has reached the disks,
// then some of it, in any order. Nothing acknowledged is lost.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	needsDiskOfOurOwn(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	c := prepare(t, 3, settings{"cluster.shards": "2"})
	var plugs []*power
	for _, n := range c.nodes {
		plugs = append(plugs, plugIn(t, n))
		n.start()
	}
	c.WaitReady()
	begun := time.Now()
	say := func(what string) { t.Logf("%6.1fs %s", time.Since(begun).Seconds(), what) }
	hashes := map[string]string{}
	for i := range linkedItems { // the second file of each log is one of the shelf, too
		id := fmt.Sprintf("kept-%d.wav", i)
		body := noise(wavHeaderBytes+1<<20, uint64(i))
		hashes[id] = hashOf(body)
		c.Node(i%2).put("faults", id, body)
	}
	for _, p := range plugs {
		eventually(t, failoverWait, "a file of a log is one of the shelf, too", func() error {
			if !p.disk.shared() {
				return fmt.Errorf("node %d: %w", p.n.index+1, os.ErrNotExist)
			}
			return nil
		})
	}
	up := startUploads(t, c)
	up.progress(t, failoverWait)
	for round, keep := range []float64{0, 0.5} {
		victim := plugs[rnd.IntN(len(plugs))]
		say("one node loses power")
		victim.cut()
		victim.off()
		up.progress(t, failoverWait)
		victim.on(rnd, keep)
		c.WaitReady()
		up.verify(t, c)

		say("it has everything again")
		sources := startSources(t, c)
		up.progress(t, failoverWait)
		pause(t.Context(), 2*faultBetween)
		say("all nodes lose power")
		killed := time.Now()
		for _, p := range plugs {
			p.cut()
		}
		for _, p := range plugs {
			p.off()
		}
		for _, p := range plugs {
			p.on(rnd, keep)
		}
		say("all are off")
		c.WaitReady()
		say("all are ready")
		up.progress(t, 2*failoverWait)
		up.verify(t, c)
		for _, s := range sources {
			s.cut(t, c, killed)
		}
		readBack(t, c, hashes)
		t.Logf("round %d: %d uploads acknowledged", round+1, len(up.snapshot()))
	}
	up.stop(t)
	up.verifyAll(t, c)
	readBack(t, c, hashes)
}
