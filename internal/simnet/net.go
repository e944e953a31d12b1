package simnet

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"
)

const (
	// sendBufferBytes is what one direction of a stream holds before its writer
	// waits, about what Linux gives a fast connection.
	sendBufferBytes = 256 << 10
	// resetAfter is how long a stream with undelivered bytes survives a cut;
	// real kernels take minutes, the keep-alive of package peer 20 s.
	resetAfter = 20 * time.Second
	// backlogMax is the number of streams that wait for Accept; more wait to
	// be dialed.
	backlogMax = 128
	// packetsMax is the number of packets that wait for their reader; more are
	// lost.
	packetsMax = 1024
	// portFirst is the first port given for port 0.
	portFirst = 40000
)

// Net is one simulated network. All methods may be called concurrently and
// take effect at once.
type Net struct {
	mu      sync.Mutex // guards everything in the network
	rand    *rand.Rand
	hosts   map[string]*Host // by name, the last of each
	routes  map[string]*Host // by address
	links   map[pair]*link
	last    int           // of the addresses given
	changed chan struct{} // closed at the next change of links or hosts
}

type pair struct{ from, to string }

// link is one direction between two hosts; none is a perfect one.
type link struct {
	cut    bool
	since  time.Time // of the cut
	delay  time.Duration
	jitter time.Duration
	drop   float64 // of packets
}

// New returns a network without hosts. The seed decides which packets are
// dropped and how much each is delayed, given the order in which they are
// sent; that order is the scheduler's.
func New(seed uint64) *Net {
	return &Net{
		rand:    rand.New(rand.NewPCG(seed, seed)), //nolint:gosec // G404: to be repeatable
		hosts:   make(map[string]*Host),
		routes:  make(map[string]*Host),
		links:   make(map[pair]*link),
		changed: make(chan struct{}),
	}
}

// Host returns the host with the name. The first time, and after Kill, that is
// a new one; after Kill it has the old address.
func (n *Net) Host(name string) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.hosts[name]
	if old != nil && !old.dead {
		return old
	}
	h := &Host{
		net: n, name: name, port: portFirst,
		listeners: make(map[int]*listener),
		gossips:   make(map[int]*transport),
		conns:     make(map[*conn]struct{}),
	}
	if old != nil {
		h.ip, h.port = old.ip, old.port
	} else {
		h.ip = n.number()
	}
	n.hosts[name] = h
	n.routes[h.ip.String()] = h
	n.wake()
	return h
}

// number returns an address that nobody had. The caller holds the lock.
func (n *Net) number() net.IP {
	n.last++
	return net.IPv4(10, 0, byte(n.last>>8), byte(n.last))
}

// Cut breaks both directions between two hosts: packets are lost, streams
// stall and after a while break, dials wait.
func (n *Net) Cut(a, b string) {
	n.change(func() { n.cut(a, b); n.cut(b, a) })
}

// CutOneWay breaks the direction from one host to another.
func (n *Net) CutOneWay(from, to string) {
	n.change(func() { n.cut(from, to) })
}

// Heal mends both directions between two hosts. What streams still hold
// arrives now.
func (n *Net) Heal(a, b string) {
	n.change(func() { n.link(a, b).cut, n.link(b, a).cut = false, false })
}

// HealAll mends everything; delays and drops stay.
func (n *Net) HealAll() {
	n.change(func() {
		for _, l := range n.links {
			l.cut = false
		}
	})
}

// Partition cuts every pair of hosts that is not in the same group, and mends
// the others. Hosts in no group are alone.
func (n *Net) Partition(groups ...[]string) {
	group := make(map[string]int)
	for i, g := range groups {
		for _, name := range g {
			group[name] = i + 1
		}
	}
	n.change(func() {
		for a := range n.hosts {
			for b := range n.hosts {
				if a == b {
					continue
				}
				if group[a] != 0 && group[a] == group[b] {
					n.link(a, b).cut = false
				} else {
					n.cut(a, b)
				}
			}
		}
	})
}

// Isolate cuts the host from all others.
func (n *Net) Isolate(name string) {
	n.change(func() {
		for other := range n.hosts {
			if other != name {
				n.cut(name, other)
				n.cut(other, name)
			}
		}
	})
}

// Delay makes everything between two hosts take d and up to jitter more each
// way. Streams stay in order; packets need not.
func (n *Net) Delay(a, b string, d, jitter time.Duration) {
	n.change(func() {
		for _, l := range []*link{n.link(a, b), n.link(b, a)} {
			l.delay, l.jitter = d, jitter
		}
	})
}

// Drop loses a share (0 to 1) of the packets between two hosts each way.
func (n *Net) Drop(a, b string, share float64) {
	n.change(func() { n.link(a, b).drop, n.link(b, a).drop = share, share })
}

func (n *Net) change(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
	n.wake()
}

// wake lets all who wait look again. The caller holds the lock.
func (n *Net) wake() {
	close(n.changed)
	n.changed = make(chan struct{})
}

func (n *Net) cut(from, to string) {
	if l := n.link(from, to); !l.cut {
		l.cut, l.since = true, time.Now()
	}
}

// link returns a direction. The caller holds the lock.
func (n *Net) link(from, to string) *link {
	k := pair{from, to}
	if n.links[k] == nil {
		n.links[k] = &link{}
	}
	return n.links[k]
}

// arrival is when something sent now arrives, if it does.
func (n *Net) arrival(l *link) time.Time {
	d := l.delay
	if l.jitter > 0 {
		d += time.Duration(n.rand.Int64N(int64(l.jitter)))
	}
	return time.Now().Add(d)
}

// lookup finds the host of an address, by number or by name. The caller holds
// the lock.
func (n *Net) lookup(addr string) (*Host, int, error) {
	name, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, 0, fmt.Errorf("simulated address: %w", err)
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, 0, fmt.Errorf("simulated port: %w", err)
	}
	if h := n.routes[name]; h != nil {
		return h, int(port), nil
	}
	return n.hosts[name], int(port), nil
}
