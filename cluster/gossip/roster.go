package gossip

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// deadKeep is how long a node that went away stays in Members.
	deadKeep = 24 * time.Hour
	// membersMax bounds the nodes we remember: far over what a cluster has,
	// and a bound on what somebody with the key can make us hold.
	membersMax = 1024
)

// roster holds the members; memberlist tells it what happens. Its methods are
// called under memberlist's lock and never wait.
type roster struct {
	self      string
	log       *slog.Logger
	changes   chan struct{} // capacity 1
	contested func()
	alive     prometheus.Gauge

	mu      sync.Mutex // guards what follows
	meta    []byte
	members map[string]entry
}

type entry struct {
	Member

	since time.Time // of death
}

var (
	_ memberlist.Delegate         = (*roster)(nil)
	_ memberlist.EventDelegate    = (*roster)(nil)
	_ memberlist.ConflictDelegate = (*roster)(nil)
)

func newRoster(self Member, meta []byte, log *slog.Logger) *roster {
	return &roster{
		self: self.ID, log: log, changes: make(chan struct{}, 1), meta: meta,
		members: map[string]entry{self.ID: {Member: self}},
		alive: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "carillon_gossip_members_alive",
			Help: "Nodes that this node sees alive, itself included.",
		}),
	}
}

func (r *roster) count(reg prometheus.Registerer) error {
	r.alive.Set(1)
	if reg == nil {
		return nil
	}
	if err := reg.Register(r.alive); err != nil {
		return fmt.Errorf("register gossip metrics: %w", err)
	}
	return nil
}

func (r *roster) all() []Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Member, 0, len(r.members))
	for _, e := range r.members {
		all = append(all, e.Member)
	}
	return all
}

func (r *roster) one(id string) (Member, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.members[id]
	return e.Member, ok
}

func (r *roster) setSelf(change func(*Member)) error {
	r.mu.Lock()
	old := r.members[r.self].Member
	r.mu.Unlock()
	next := old
	change(&next)
	next.ID, next.Addr, next.Alive = old.ID, old.Addr, old.Alive
	meta, err := encodeMeta(next)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.meta = meta
	r.mu.Unlock()
	r.set(next)
	return nil
}

// set notes a living or dead member and says so if that is news.
func (r *roster) set(m Member) {
	r.mu.Lock()
	old, known := r.members[m.ID]
	if !known && len(r.members) >= membersMax && !r.makeRoom() {
		r.mu.Unlock()
		return
	}
	e := entry{Member: m}
	if !m.Alive {
		e.since = time.Now()
	}
	r.members[m.ID] = e
	maps.DeleteFunc(r.members, func(_ string, e entry) bool {
		return !e.Alive && time.Since(e.since) > deadKeep
	})
	alive := 0
	for _, e := range r.members {
		if e.Alive {
			alive++
		}
	}
	r.mu.Unlock()
	r.alive.Set(float64(alive))
	if known && old.Member == m {
		return
	}
	select {
	case r.changes <- struct{}{}:
	default: // one is waiting already
	}
}

// makeRoom forgets the longest dead. The caller holds the lock.
func (r *roster) makeRoom() bool {
	dead := slices.DeleteFunc(slices.Collect(maps.Values(r.members)), func(e entry) bool { return e.Alive })
	if len(dead) == 0 {
		return false
	}
	oldest := slices.MinFunc(dead, func(a, b entry) int { return a.since.Compare(b.since) })
	delete(r.members, oldest.ID)
	return true
}

// noted turns memberlist's node into a member.
func (r *roster) noted(n *memberlist.Node, alive bool) Member {
	m := Member{ID: n.Name}
	if err := decodeMeta(n.Meta, &m); err != nil {
		r.log.Warn("metadata of a node not understood", "peer", n.Name, "error", err)
	}
	m.Addr, m.Alive = n.Address(), alive
	return m
}

// NotifyJoin implements memberlist.EventDelegate.
func (r *roster) NotifyJoin(n *memberlist.Node) {
	m := r.noted(n, true)
	if m.ID != r.self {
		r.log.Info("node joined", "peer", m.ID, "addr", m.Addr)
	}
	r.set(m)
}

// NotifyUpdate implements memberlist.EventDelegate.
func (r *roster) NotifyUpdate(n *memberlist.Node) { r.set(r.noted(n, true)) }

// NotifyLeave implements memberlist.EventDelegate.
func (r *roster) NotifyLeave(n *memberlist.Node) {
	if n.Name == r.self {
		return // that is us, closing
	}
	m := r.noted(n, false)
	r.log.Info("node left", "peer", m.ID, "addr", m.Addr)
	r.set(m)
}

// NotifyConflict implements memberlist.ConflictDelegate. A conflict about
// ourselves is normal after a restart with another address: the others hold
// our old self for alive until they have noticed its death.
func (r *roster) NotifyConflict(existing, other *memberlist.Node) {
	if existing.Name == r.self {
		r.contested()
		return
	}
	r.log.Info("node seen at two addresses, restarted or copied", "peer", existing.Name,
		"addr", existing.Address(), "other_addr", other.Address())
}

// NodeMeta implements memberlist.Delegate.
func (r *roster) NodeMeta(int) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.meta
}

// NotifyMsg implements memberlist.Delegate; we send no messages.
func (r *roster) NotifyMsg([]byte) {}

// GetBroadcasts implements memberlist.Delegate.
func (r *roster) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate.
func (r *roster) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (r *roster) MergeRemoteState([]byte, bool) {}
