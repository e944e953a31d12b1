package gossip

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

const (
	// eagerPause is between attempts while nobody else is there, after a start
	// and while our own address is contested; when all nodes restart it is what
	// they wait.
	eagerPause = 2 * time.Second
	// eagerTime is how long a start or a contest makes us hurry: the others
	// need up to half of it to notice that our old self is dead.
	eagerTime = 30 * time.Second
	// calmPause is between attempts otherwise, and calmJitter is added at
	// random so that nodes do not keep step.
	calmPause  = 15 * time.Second
	calmJitter = 15 * time.Second
	// targetsMax bounds the addresses tried in one round, at once.
	targetsMax = 8
)

// rejoin tries seeds and lost nodes until Close.
func (g *Gossip) rejoin() {
	for {
		g.round()
		pause := calmPause + rand.N(calmJitter) //nolint:gosec // G404: jitter
		if len(g.others(true)) == 0 || time.Now().UnixNano() < g.eager.Load() {
			pause = eagerPause
		}
		timer := time.NewTimer(pause)
		select {
		case <-g.closing:
			timer.Stop()
			return
		case <-timer.C:
		case <-g.kick:
			timer.Reset(eagerPause)
			select {
			case <-g.closing:
				timer.Stop()
				return
			case <-timer.C:
			}
		}
	}
}

func (g *Gossip) hurry() { g.eager.Store(time.Now().Add(eagerTime).UnixNano()) }

// contested says that others know us at another address. It never waits.
func (g *Gossip) contested() {
	g.hurry()
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

// others returns the addresses of the other members, living or dead.
func (g *Gossip) others(alive bool) []string {
	var addrs []string
	for _, m := range g.roster.all() {
		if m.ID != g.id && m.Alive == alive {
			addrs = append(addrs, m.Addr)
		}
	}
	return addrs
}

// round tries each seed and lost node that is not a living member, and one
// living member, all at once: an address where nobody is any more costs a
// timeout, and after a restart of everything most may be such.
func (g *Gossip) round() {
	self := g.Addr()
	skip := map[string]bool{self: true}
	living := g.others(true)
	for _, addr := range living {
		skip[addr] = true
	}
	targets := shuffled(g.resolveSeeds())
	targets = append(targets, shuffled(g.others(false))...)
	var tries sync.WaitGroup
	defer tries.Wait()
	tried := 0
	for _, addr := range targets {
		if skip[addr] {
			continue
		}
		skip[addr] = true
		if tried++; tried > targetsMax {
			break
		}
		tries.Go(func() { g.join(addr) })
	}
	// The living may know us at another address; if they do not, this is one
	// more exchange of state, which does no harm.
	if len(living) > 0 {
		lucky := living[rand.IntN(len(living))] //nolint:gosec // G404: any of them
		tries.Go(func() { g.join(lucky) })
	}
}

// join exchanges state with who is at an address, unless we are closing.
func (g *Gossip) join(addr string) {
	select {
	case <-g.closing:
		return
	default:
	}
	if _, err := g.list.Join([]string{addr}); err != nil {
		g.log.Debug("join failed", "addr", addr, "error", err)
	}
}

func shuffled(s []string) []string {
	rand.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] }) //nolint:gosec // G404: fairness only
	return s
}

// resolveSeeds resolves the seeds anew: containers come back with other
// addresses under the same name.
func (g *Gossip) resolveSeeds() []string {
	ctx, cancel := context.WithTimeout(context.Background(), lookupWait)
	defer cancel()
	go func() { // ends with this function at the latest
		select {
		case <-g.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	var addrs []string
	for _, seed := range g.seeds {
		host, port, err := net.SplitHostPort(seed)
		if err != nil {
			g.log.Warn("seed without a port", "seed", seed, "error", err)
			continue
		}
		if net.ParseIP(host) != nil {
			addrs = append(addrs, seed)
			continue
		}
		ips, err := net.DefaultResolver.LookupHost(ctx, host)
		if err != nil {
			g.log.Debug("seed not found", "seed", seed, "error", err)
			continue
		}
		for _, ip := range ips {
			addrs = append(addrs, net.JoinHostPort(ip, port))
		}
	}
	return addrs
}
