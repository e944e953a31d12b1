package gossip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"

	"carillon/internal/hlog"
)

const (
	// leaveWait is how long Close tells the others that we go.
	leaveWait = 2 * time.Second
	// spreadWait is how long Update waits until somebody has heard it; after
	// that it still spreads with the next exchange.
	spreadWait = time.Second
	// lookupWait bounds one resolution of a name.
	lookupWait = 3 * time.Second
	// SettleTime is how long after Close the last goroutine of memberlist may
	// still be there: its slowest probe, at eight times its interval. A test in
	// a bubble must let this much time pass before it ends.
	SettleTime = 10 * time.Second
	// nodeIDBytesMax is what package peer allows.
	nodeIDBytesMax = 63
)

// Member is what one node says about itself, and whether it is there.
type Member struct {
	ID      string
	Addr    string // ip:port of gossip
	Peer    string // host:port of the peer port
	HTTP    string // URL or host:port
	Shout   string // host:port
	Cluster string // cluster id; empty: none yet
	Zone    string
	Version string
	// Disk is how full the node's disk is, "" for roomy; see package cluster.
	Disk string
	// Weight is the node's capacity as a number, "" for the default.
	Weight string
	// Format is the newest format of log commands that the node reads.
	Format string
	Alive  bool
}

// Config is what Open needs.
type Config struct {
	NodeID    string
	Bind      string // host:port; port 0 picks one
	Advertise string // host:port for the others; empty: as bound
	// Key encrypts gossip: 32 bytes, see peer.GossipKey. Empty is plain, on
	// loopback (or a given transport) only.
	Key []byte
	// Accept are keys of others that are understood too, while a key is changed.
	Accept [][]byte
	Seeds  []string // host:port; names are resolved at each try
	// Self is what the others learn about this node; ID, Addr and Alive are
	// set by us.
	Self      Member
	Transport memberlist.Transport // nil: the real network; closed by Close
	Log       *slog.Logger
	Metrics   prometheus.Registerer // nil counts for nobody
	Profile   string                // ProfileLAN (default) or ProfileLocal
}

// Gossip is one node's view of the membership. All methods may be called
// concurrently.
type Gossip struct {
	log       *slog.Logger
	seeds     []string
	id        string
	list      *memberlist.Memberlist
	transport *transport
	roster    *roster
	closing   chan struct{}
	kick      chan struct{} // capacity 1: join now
	eager     atomic.Int64  // until when to hurry, Unix nanoseconds
	wg        sync.WaitGroup

	update sync.Mutex // serialises Update and Close: memberlist wants that
	closed bool       // guarded by update
}

// Open starts to gossip. It does not wait for anybody; Members grows as the
// others are found.
func Open(cfg Config) (*Gossip, error) {
	if cfg.NodeID == "" || len(cfg.NodeID) > nodeIDBytesMax || cfg.Log == nil {
		return nil, fmt.Errorf("node id %q, and a log is needed: %w", cfg.NodeID, ErrConfig)
	}
	self := cfg.Self
	self.ID, self.Alive = cfg.NodeID, true
	meta, err := encodeMeta(self)
	if err != nil {
		return nil, err
	}
	mc, err := settings(cfg.Profile)
	if err != nil {
		return nil, err
	}
	mc.Name = cfg.NodeID
	if len(cfg.Key) > 0 {
		if mc.Keyring, err = memberlist.NewKeyring(cfg.Accept, cfg.Key); err != nil {
			return nil, fmt.Errorf("gossip keys: %w: %w", ErrConfig, err)
		}
	}
	log := cfg.Log.With("component", "gossip")
	mc.Logger = hlog.Std(hlog.Quieter(log))
	inner, err := cfg.network(mc)
	if err != nil {
		return nil, err
	}
	g := &Gossip{
		log: log, seeds: slices.Clone(cfg.Seeds), id: cfg.NodeID,
		transport: newTransport(inner),
		roster:    newRoster(self, meta, log),
		closing:   make(chan struct{}),
		kick:      make(chan struct{}, 1),
	}
	if err = g.roster.count(cfg.Metrics); err != nil {
		return nil, errors.Join(err, g.transport.Shutdown())
	}
	g.roster.contested = g.contested
	g.hurry()
	mc.Transport, mc.Delegate, mc.Events, mc.Conflict = g.transport, g.roster, g.roster, g.roster
	if g.list, err = memberlist.Create(mc); err != nil {
		return nil, errors.Join(fmt.Errorf("start gossip: %w", err), g.transport.Shutdown())
	}
	g.wg.Go(g.rejoin)
	return g, nil
}

// network gives the transport and sets the addresses in mc.
func (cfg *Config) network(mc *memberlist.Config) (memberlist.Transport, error) {
	if cfg.Advertise != "" {
		ip, port, err := resolveOne(cfg.Advertise)
		if err != nil {
			return nil, fmt.Errorf("advertised address: %w", err)
		}
		mc.AdvertiseAddr, mc.AdvertisePort = ip.String(), port
	}
	if cfg.Transport != nil {
		return cfg.Transport, nil
	}
	ip, port, err := resolveOne(cfg.Bind)
	if err != nil {
		return nil, fmt.Errorf("bind address: %w", err)
	}
	if len(cfg.Key) == 0 && !ip.IsLoopback() {
		return nil, fmt.Errorf("plain gossip on %s, not loopback: %w", ip, ErrConfig)
	}
	t, err := listen(&memberlist.NetTransportConfig{
		BindAddrs: []string{ip.String()}, BindPort: port, Logger: mc.Logger,
	})
	if err != nil {
		return nil, err
	}
	mc.BindAddr, mc.BindPort = ip.String(), t.GetAutoBindPort()
	if mc.AdvertiseAddr != "" && mc.AdvertisePort == 0 {
		mc.AdvertisePort = mc.BindPort
	}
	return t, nil
}

// resolveOne resolves host:port; an empty host is every address.
func resolveOne(hostPort string) (net.IP, int, error) {
	host, service, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, 0, fmt.Errorf("%q: %w: %w", hostPort, ErrConfig, err)
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, 0, fmt.Errorf("port of %q: %w: %w", hostPort, ErrConfig, err)
	}
	if host == "" {
		return net.IPv4zero, int(port), nil
	}
	if ip := net.ParseIP(host); ip != nil {
		return ip, int(port), nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupWait)
	defer cancel()
	ips, err := net.DefaultResolver.LookupIP(ctx, "ip", host)
	if err != nil {
		return nil, 0, fmt.Errorf("resolve %q: %w", hostPort, err)
	}
	return ips[0], int(port), nil
}

// Close says goodbye, with a bounded wait, and stops. memberlist's probes that
// are under way end by themselves within SettleTime, without effect.
func (g *Gossip) Close() error {
	g.update.Lock()
	defer g.update.Unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	close(g.closing)
	g.transport.stopStreams()
	g.wg.Wait()
	if err := g.list.Leave(leaveWait); err != nil {
		g.log.Debug("nobody heard that this node leaves", "error", err)
	}
	if err := g.list.Shutdown(); err != nil {
		return fmt.Errorf("stop gossip: %w", err)
	}
	return nil
}

// Addr returns the address that the others know, ip:port.
func (g *Gossip) Addr() string {
	self, _ := g.roster.one(g.id)
	return self.Addr
}

// Members returns this node and all others, also the dead for a day, in the
// order of their ids.
func (g *Gossip) Members() []Member {
	members := g.roster.all()
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return members
}

// Member returns one member.
func (g *Gossip) Member(id string) (Member, bool) { return g.roster.one(id) }

// Changes receives when Members may have changed since the last receive. There
// is one channel: it is for one reader.
func (g *Gossip) Changes() <-chan struct{} { return g.roster.changes }

// Update changes what this node says about itself and spreads it. ID, Addr and
// Alive cannot be changed. ErrMetadata: too long, nothing was changed.
func (g *Gossip) Update(change func(*Member)) error {
	g.update.Lock()
	defer g.update.Unlock()
	if g.closed {
		return ErrClosed
	}
	if err := g.roster.setSelf(change); err != nil {
		return err
	}
	if err := g.list.UpdateNode(spreadWait); err != nil {
		g.log.Debug("nobody heard the update yet", "error", err)
	}
	return nil
}
