package cluster

import (
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

	"carillon/blobstore"
	"carillon/cluster/gossip"
	"carillon/cluster/peer"
	"carillon/cluster/raftnet"
	"carillon/cluster/readcache"
	"carillon/internal/hlog"
)

// Node is this process's membership in the cluster.
type Node struct {
	id  string
	cfg Config
	log *slog.Logger
	// chatter is for raft, of all groups.
	chatter *slog.Logger

	blobs    *blobstore.Store
	rows     *blobstore.CatalogStore
	link     *peer.Link
	gossip   *gossip.Gossip
	metrics  *metrics
	batches  []*batcher
	ahead    []ahead // by shard
	pending  pending
	setCheck setCheck
	format   atomic.Uint32 // what the cluster writes; 0: FormatMin
	halts    halts
	fetching fetching
	growth   growth
	survey   *surveyor
	pacing   pacing
	pieces   chan struct{} // places of pieces that are being fetched, see fetch.go
	cache    *readcache.Cache
	located  located
	raft     *raftnet.Transports
	unheard  leftBehind // by a recovery: they have no say here
	disk     *disk
	scrub    *scrub
	repair   *repair
	resync   resync
	fs       diskFS
	spool    *blobstore.Spool // nil: none
	// announced is the cluster that gossip is told of before this node has
	// formed; only a recovery sets it.
	announced string
	// heard are the foreign clusters that membershipLoop has looked at, by node.
	heard map[string]string
	// heardOf is when membershipLoop first heard of a cluster to join.
	heardOf   time.Time
	condemned atomic.Pointer[string] // why a database is to be built again
	doubted   atomic.Int64           // when gone last looked at the tables, Unix nanoseconds
	// leaderless is set from a look for the leader that waited in vain to one
	// that found it.
	leaderless atomic.Bool
	// leftBehind is set when a recovery has gone on without this node.
	leftBehind atomic.Bool

	// formed is closed when charter, catalog and shards are set. The first two
	// never change after that.
	formed  chan struct{}
	charter *charter
	catalog *group
	shards  []atomic.Pointer[group] // by shard, nil where this node is no member; see host.go
	forming sync.Mutex
	hosting sync.Mutex             // held while blob groups are opened and closed, see stay.go
	placed  atomic.Pointer[placed] // set with charter
	promise promise

	caughtUp atomic.Bool
	kick     chan struct{} // wakes placeLoop
	opened   time.Time
	asked    time.Time // when this node last asked for its standing; of placeLoop
	obeyed   uint64    // revision of the orders that are carried out; of placeLoop
	failed   chan error
	lost     chan string // nodes whose connections ended, see takeover.go
	//nolint:containedctx // it ends what outlives any call: loops and their calls
	ctx       context.Context
	stop      context.CancelFunc
	wg        sync.WaitGroup
	closeOnce sync.Once
}

// Open joins or re-joins the cluster and returns at once; [Node.Ready] tells
// when the node can be used. Until the cluster has formed, changes wait for
// that as long as their context allows.
func Open(cfg Config, deps Deps) (_ *Node, err error) {
	if err = cfg.Validate(); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	if err = checkRemoved(cfg.Dir); err != nil {
		return nil, err
	}
	id, err := loadIdentity(cfg.Dir)
	if err != nil {
		return nil, err
	}
	n := newNode(id, cfg, deps)
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if err = n.openLink(deps); err != nil {
		return nil, err
	}
	if err = n.openGossip(deps); err != nil {
		return nil, err
	}
	n.link.Serve()
	n.disk.look()
	if err = n.resync.load(cfg.Dir); err != nil {
		return nil, err
	}
	known, err := loadCharter(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if known != nil {
		if err = n.form(*known); err != nil {
			return nil, err
		}
	}
	n.wg.Go(n.membershipLoop)
	n.wg.Go(n.disk.run)
	n.wg.Go(n.stallLoop)
	n.wg.Go(n.scrubLoop)
	n.wg.Go(n.lookLoop)
	n.wg.Go(n.repair.run)
	n.wg.Go(n.resyncLoop)
	n.wg.Go(n.sweepLoop)
	n.wg.Go(n.setCheckLoop)
	n.wg.Go(n.surveyLoop)
	n.wg.Go(n.growthLoop)
	n.wg.Go(n.takeoverLoop)
	return n, nil
}

// newNode is a node of which nothing is open yet.
func newNode(id string, cfg Config, deps Deps) *Node {
	n := &Node{
		id: id, cfg: cfg, log: deps.Log.With("component", "cluster", "node_id", id),
		blobs: deps.Blobs, rows: deps.Catalog, formed: make(chan struct{}), failed: make(chan error, 1),
		lost: make(chan string, lostQueueMax), kick: make(chan struct{}, 1), opened: time.Now(),
		pieces: make(chan struct{}, piecesMax),
		spool:  deps.Spool, fs: deps.fs,
	}
	n.chatter = hlog.Quieter(n.log)
	n.raft = raftnet.NewTransports(kindRaft, n.unheard.hears)
	n.pacing.rate = cfg.CatchUpRate
	n.disk = newDisk(n, deps.space)
	n.survey = newSurveyor(n)
	n.scrub, n.repair = &scrub{n: n}, newRepair(n)
	n.metrics = newMetrics(deps.Metrics, n)
	n.cache = readcache.New(cfg.CacheBytes, n.metrics.cacheHits)
	n.ctx, n.stop = context.WithCancel(context.Background())
	return n
}

func (n *Node) openLink(deps Deps) error {
	network := deps.Network
	if network == nil {
		network = peer.TCP{}
	}
	cfg := peer.Config{
		NodeID: n.id, Bind: n.cfg.PeerBind, Network: network, Log: n.log, Metrics: deps.Metrics,
		Resolve: n.resolve, Lost: n.lostPeer,
	}
	var err error
	switch {
	case n.cfg.CertFile != "":
		cfg.Files, err = peer.OpenFiles(n.cfg.CertFile, n.cfg.KeyFile, n.cfg.CAFile, n.log)
	case len(n.cfg.Secret) > 0:
		cfg.TLS, err = peer.ClusterTLS(n.cfg.Secret, n.id, n.cfg.Accept...)
	}
	if err != nil {
		return fmt.Errorf("peer identity: %w", err)
	}
	if n.link, err = peer.Open(cfg); err != nil {
		return fmt.Errorf("open peer port: %w", err)
	}
	n.serve()
	return nil
}

func (n *Node) openGossip(deps Deps) error {
	cfg := gossip.Config{
		NodeID: n.id, Bind: n.cfg.GossipBind,
		Seeds:     append(slices.Clone(n.cfg.Seeds), readWhereabouts(n.cfg.Dir).addrs()...),
		Transport: deps.Gossip, Log: n.log, Metrics: deps.Metrics, Profile: "lan",
		Self: gossip.Member{
			ID: n.id, Peer: n.advertised(n.link.Addr()), HTTP: n.cfg.HTTPURL, Shout: n.cfg.ShoutHost,
			Zone: n.cfg.Zone, Version: n.cfg.Version, Format: strconv.Itoa(int(n.cfg.formatMax)),
			Weight:  strconv.Itoa(n.cfg.Weight),
			Cluster: n.announced,
		},
	}
	if n.cfg.Advertise != "" {
		cfg.Advertise = n.advertised(n.cfg.GossipBind)
	}
	if len(n.cfg.Secret) > 0 {
		cfg.Key = peer.GossipKey(n.cfg.Secret)
		for _, s := range n.cfg.Accept {
			cfg.Accept = append(cfg.Accept, peer.GossipKey(s))
		}
	}
	var err error
	if n.gossip, err = gossip.Open(cfg); err != nil {
		return fmt.Errorf("open gossip: %w", err)
	}
	return nil
}

// advertised is the address that others dial for a bound one.
func (n *Node) advertised(bound string) string {
	host, port, err := net.SplitHostPort(bound)
	if err != nil {
		return bound
	}
	if n.cfg.Advertise != "" {
		host = n.cfg.Advertise
	}
	return net.JoinHostPort(host, port)
}

// resolve tells the link where a node is now. A node whose bound address is a
// wildcard is reached at the host its gossip comes from.
func (n *Node) resolve(id string) (string, error) {
	m, ok := n.gossip.Member(id)
	if !ok || m.Peer == "" {
		return "", fmt.Errorf("node %s: address unknown: %w", id, blobstore.ErrUnavailable)
	}
	host, port, err := net.SplitHostPort(m.Peer)
	if err != nil {
		return "", fmt.Errorf("node %s: address %q: %w", id, m.Peer, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		if host, _, err = net.SplitHostPort(m.Addr); err != nil {
			return "", fmt.Errorf("node %s: address %q: %w", id, m.Addr, err)
		}
	}
	return net.JoinHostPort(host, port), nil
}

// shardOf is the shard of a blob.
func shardOf(id blobstore.ID, shards int) int { return blobstore.ShardOf(id, shards) }

// ID is the node's id.
func (n *Node) ID() string { return n.id }

// PeerAddr and GossipAddr are the bound addresses.
func (n *Node) PeerAddr() string { return n.link.Addr() }

// GossipAddr is the bound address of gossip.
func (n *Node) GossipAddr() string { return n.gossip.Addr() }

// Failed yields the reason when the node can no longer take part, for example
// because its disk failed. The process should stop then.
func (n *Node) Failed() <-chan error { return n.failed }

// Writer changes blobs on all their replicas.
func (n *Node) Writer() blobstore.Writer { return writer{n} }

// Shelf reads blobs wherever they are.
func (n *Node) Shelf() blobstore.Shelf { return shelf{n} }

// Catalog is the replicated catalog.
func (n *Node) Catalog() blobstore.Catalog { return catalog{n} }

// waitFormed returns when the cluster has formed.
func (n *Node) waitFormed(ctx context.Context) error {
	select {
	case <-n.formed:
		return nil
	default:
	}
	select {
	case <-n.formed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cluster has not formed: %w: %w", blobstore.ErrUnavailable, ctx.Err())
	case <-n.ctx.Done():
		return fmt.Errorf("cluster: %w", blobstore.ErrClosed)
	}
}

// isFormed says whether groups may be touched.
func (n *Node) isFormed() bool {
	select {
	case <-n.formed:
		return true
	default:
		return false
	}
}

// Close leaves gossip, hands leadership over and waits for everything the node
// started.
func (n *Node) Close() error {
	var err error
	n.closeOnce.Do(func() {
		n.stop()
		if n.gossip != nil {
			err = errors.Join(err, n.gossip.Close())
		}
		n.forming.Lock() // form may be at work; nothing forms after n.stop
		for _, b := range n.batches {
			b.close()
		}
		n.forming.Unlock()
		err = errors.Join(err, n.closeGroups())
		if n.link != nil {
			err = errors.Join(err, n.link.Close())
		}
		n.wg.Wait()
	})
	return err
}
