package systemtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A netlab is a switch between network namespaces, in this process: each node
// lives in a namespace of its own, whose only way out is a TUN device, and every
// packet of every node passes through here, to be dropped, or held back, or
// passed on. Nothing of it needs iptables, tc, or a bridge, and nothing of the
// machine's own network is touched. It needs root.

const (
	labPrefix = "10.77.0." // in namespaces, so any number of labs have it
	labMTU    = 1400
	// labQueueMax bounds the packets on their way between two nodes; more are
	// dropped, as a switch does.
	labQueueMax = 4096
)

// linkFault is what happens to the packets from one node to another.
type linkFault struct {
	cut   bool
	loss  float64 // share of the packets, 0 to 1
	delay time.Duration
}

type packet struct {
	due  time.Time
	data []byte
}

// netlab connects its nodes.
type netlab struct {
	tun   []*os.File
	space []*os.File // namespaces, by node

	mu     sync.Mutex
	faults map[[2]int]linkFault // guarded by mu: from, to

	done chan struct{}
	wg   sync.WaitGroup
}

// newLab makes n namespaces with one TUN device each.
func newLab(tb testing.TB, n int) *netlab {
	tb.Helper()
	lab := &netlab{faults: map[[2]int]linkFault{}, done: make(chan struct{})}
	for i := range n {
		space, tun, err := newNamespace(labIP(i))
		if err != nil {
			needsKernel(tb, fmt.Errorf("namespace of node %d: %w", i+1, err))
		}
		lab.space, lab.tun = append(lab.space, space), append(lab.tun, tun)
	}
	links := make([][]chan packet, n)
	for i := range n {
		links[i] = make([]chan packet, n)
		for j := range n {
			if i != j {
				links[i][j] = make(chan packet, labQueueMax)
				lab.wg.Go(func() { lab.carry(links[i][j], j) })
			}
		}
		lab.wg.Go(func() { lab.read(i, links[i]) })
	}
	tb.Cleanup(lab.close)
	return lab
}

func labIP(i int) string { return fmt.Sprintf("%s%d", labPrefix, i+1) }

func (l *netlab) close() {
	close(l.done)
	for i := range l.tun {
		_ = l.tun[i].Close() // ends read
	}
	l.wg.Wait()
	for i := range l.space {
		_ = l.space[i].Close()
	}
}

// read takes the packets that a node sends.
func (l *netlab) read(from int, links []chan packet) {
	buf := make([]byte, 2*labMTU)
	for {
		n, err := l.tun[from].Read(buf)
		if err != nil {
			return
		}
		to, ok := destination(buf[:n])
		if !ok || to >= len(links) || links[to] == nil {
			continue
		}
		l.mu.Lock()
		f := l.faults[[2]int{from, to}]
		l.mu.Unlock()
		if f.cut || f.loss > 0 && rand.Float64() < f.loss {
			continue
		}
		select {
		case links[to] <- packet{time.Now().Add(f.delay), append([]byte(nil), buf[:n]...)}:
		default:
		}
	}
}

// destination is the node that a packet is for: IPv4 only, by the last byte.
func destination(p []byte) (int, bool) {
	if len(p) < 20 || p[0]>>4 != 4 {
		return 0, false
	}
	to, _ := netip.AddrFromSlice(p[16:20])
	base := netip.MustParseAddr(labPrefix + "0").As4()
	b := to.As4()
	return int(b[3]) - 1, b[3] > 0 && b[0] == base[0] && b[1] == base[1] && b[2] == base[2]
}

// carry passes packets on when they are due, in their order.
func (l *netlab) carry(packets <-chan packet, to int) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-l.done:
			return
		case p := <-packets:
			if wait := time.Until(p.due); wait > 0 {
				timer.Reset(wait)
				select {
				case <-timer.C:
				case <-l.done:
					return
				}
			}
			_, _ = l.tun[to].Write(p.data) // a device that is gone is at the end of the test
		}
	}
}

// set changes what happens from one node to another.
func (l *netlab) set(from, to int, f linkFault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults[[2]int{from, to}] = f
}

// both changes both ways.
func (l *netlab) both(a, b int, f linkFault) {
	l.set(a, b, f)
	l.set(b, a, f)
}

// all changes every way.
func (l *netlab) all(f linkFault) {
	for i := range l.tun {
		for j := range l.tun {
			l.set(i, j, f)
		}
	}
}

// isolate cuts a node off.
func (l *netlab) isolate(i int) {
	for j := range l.tun {
		l.both(i, j, linkFault{cut: true})
	}
}

// newNamespace makes a namespace with lo and a TUN device of that address. The
// thread that was moved into it is given up.
func newNamespace(ip string) (space, tun *os.File, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with us
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("unshare: %w", err)
			return
		}
		if space, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return
		}
		if err = linkUp("lo", "127.0.0.1", 0); err != nil {
			return
		}
		if tun, err = openTUN("car0"); err != nil {
			return
		}
		err = linkUp("car0", ip, labMTU)
	}()
	<-done
	return space, tun, err
}

// openTUN makes a device that lives as long as the file.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return nil, fmt.Errorf("make tun: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// linkUp gives a device its address in a network of 24 bits and starts it.
func linkUp(name, ip string, mtu uint32) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	steps := []struct {
		op  uint
		set func(*unix.Ifreq) error
	}{
		{unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(net.ParseIP(ip).To4()) }},
		{unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr([]byte{255, 255, 255, 0}) }},
		{unix.SIOCSIFMTU, func(r *unix.Ifreq) error { r.SetUint32(mtu); return nil }},
		{unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }},
	}
	for _, s := range steps {
		if s.op == unix.SIOCSIFMTU && mtu == 0 {
			continue
		}
		req, err := unix.NewIfreq(name)
		if err == nil {
			err = s.set(req)
		}
		if err == nil {
			err = unix.IoctlIfreq(fd, s.op, req)
		}
		if err != nil {
			return fmt.Errorf("configure %s (%#x): %w", name, s.op, err)
		}
	}
	return nil
}

// inside runs f on a thread that is in the node's namespace. F must not start
// goroutines that use the network.
func (l *netlab) inside(i int, f func() error) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // given up with the goroutine
		if err = unix.Setns(int(l.space[i].Fd()), unix.CLONE_NEWNET); err == nil {
			err = f()
		}
	}()
	<-done
	return err
}

// dial connects as a client on the machine of the node that addr names: cuts
// between nodes do not concern it.
func (l *netlab) dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	for i := range l.space {
		if labIP(i) != host {
			continue
		}
		err = l.inside(i, func() error {
			var d net.Dialer
			conn, err = d.DialContext(ctx, network, addr)
			return err
		})
		return conn, err
	}
	return nil, fmt.Errorf("no node has %s: %w", addr, errors.ErrUnsupported)
}

// StartInLab starts a cluster whose nodes are in the lab's namespaces.
func StartInLab(tb testing.TB, lab *netlab, changes settings) *Cluster {
	tb.Helper()
	n := len(lab.tun)
	c := &Cluster{tb: tb, http: &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 16, DialContext: lab.dial,
	}}}
	dir, logs := tb.TempDir(), tb.ArtifactDir()
	join := make([]string, n)
	for i := range n {
		join[i] = labIP(i) + ":7946"
	}
	for i := range n {
		ip := labIP(i)
		values := settings{
			"http.bind": fmt.Sprintf("%q", ip+":8080"), "shout.bind": fmt.Sprintf("%q", ip+":8000"),
			"cluster.bind": fmt.Sprintf("%q", ip+":7946"), "cluster.peer_bind": fmt.Sprintf("%q", ip+":7947"),
			"cluster.secret": `"a secret of the tests, long enough"`,
		}
		maps.Copy(values, changes)
		node := &Node{
			&process{dir: filepath.Join(dir, fmt.Sprintf("node%d", i+1))}, c, i,
			"http://" + ip + ":8080", ip + ":8000",
		}
		node.spawn = func(cmd *exec.Cmd) error { return lab.inside(i, cmd.Start) }
		if err := os.MkdirAll(node.dir, 0o700); err != nil {
			tb.Fatal(err)
		}
		node.configure([]int{8080, 8000, 7946, 7947}, join, values)
		c.nodes = append(c.nodes, node)
	}
	tb.Cleanup(func() { c.cleanup(logs) })
	for _, node := range c.nodes {
		node.start()
	}
	c.WaitReady()
	return c
}
