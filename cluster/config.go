package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"

	"carillon/blobstore"
	"carillon/cluster/command"
	"carillon/cluster/peer"
	"carillon/cluster/placement"
)

// Defaults, beside the limits that Validate holds them to.
const (
	ShardsDefault       = 8
	ShardsMax           = 256
	ReplicasDefault     = 3
	ReplicasMax         = 7
	ExpectMax           = 64
	ElectionWaitDefault = 750 * time.Millisecond
	SweepWaitDefault    = 10 * time.Minute
	SweepGraceDefault   = time.Hour
	SnapshotBytesMax    = 64 << 20
)

// Config of a node's membership. Zero durations take the defaults above.
type Config struct {
	Dir        string   // the node's data directory
	GossipBind string   // host:port, tcp and udp
	PeerBind   string   // host:port
	Advertise  string   // host under which the others reach this node; "" finds it from the binds
	Seeds      []string // host:port of gossip, resolved anew at each try
	Secret     []byte   // gives gossip key and peer TLS; empty: plain, loopback only
	Accept     [][]byte // secrets of others that are taken for members too
	CertFile   string   // with KeyFile and CAFile: own certificates instead of the secret's
	KeyFile    string
	CAFile     string
	Expect     int // members that the first start waits for
	Shards     int // blob groups, fixed by the first start
	Replicas   int // members of each blob group
	Zone       string
	Weight     int // capacity beside that of the others
	Version    string
	HTTPURL    string // what clients reach this node under, told to the others
	ShoutHost  string

	ReplaceAfter time.Duration // how long a node may be away before others take its place
	CacheBytes   int64         // kept in memory of what others hold and this node has played
	CatchUpRate  int64         // bytes a second that this node fetches to catch up; 0: no limit
	DropAfter    time.Duration // how long data stay here of a group that this node has left
	// formatMax is the newest format of log commands that this node reads; 0:
	// command.FormatMax. Tests of upgrades set it.
	formatMax byte
	// segmentBytes is the size of a file of a raft log; 0: raftlog.SegmentBytes.
	segmentBytes int

	ElectionWait time.Duration // follower's patience with a silent leader
	SweepWait    time.Duration // between looks for blobs nobody refers to
	SweepGrace   time.Duration // how long such a blob is kept
	Disk         DiskLimits
	DiskStall    time.Duration // how long a write may take before the node gives up leading
	ScrubBytes   int64         // read a second by the scrub; negative: it is off
	ScrubWait    time.Duration // from one pass to the next
}

// Deps are the parts a node stands on. Network and Gossip are nil but in
// simulations.
type Deps struct {
	Blobs   *blobstore.Store
	Catalog *blobstore.CatalogStore
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Network peer.Network
	Gossip  memberlist.Transport
	Spool   *blobstore.Spool // shown in the status; nil: none
	space   diskSpace        // nil: the file system's; tests set it
	fs      diskFS           // nil: the disk; tests set it
}

// Validate fills in defaults and reports everything that is wrong at once.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	orDefault(&c.Shards, ShardsDefault)
	orDefault(&c.Replicas, ReplicasDefault)
	orDefault(&c.Expect, 1)
	orDefault(&c.formatMax, command.FormatMax)
	orDefault(&c.Weight, placement.WeightDefault)
	orDefault(&c.ReplaceAfter, placement.ReplaceAfterDefault)
	orDefault(&c.DropAfter, DropAfterDefault)
	orDefault(&c.ElectionWait, ElectionWaitDefault)
	orDefault(&c.SweepWait, SweepWaitDefault)
	orDefault(&c.SweepGrace, SweepGraceDefault)
	c.Disk.withDefaults()
	orDefault(&c.DiskStall, DiskStallDefault)
	orDefault(&c.ScrubBytes, ScrubBytesDefault)
	orDefault(&c.ScrubWait, ScrubWaitDefault)
	if c.Dir == "" {
		bad("data directory is not set")
	}
	if c.Shards < 1 || c.Shards > ShardsMax {
		bad("shards %d: want 1 to %d", c.Shards, ShardsMax)
	}
	if c.Replicas < 1 || c.Replicas > ReplicasMax {
		bad("replicas %d: want 1 to %d", c.Replicas, ReplicasMax)
	}
	if c.Weight < 1 || c.Weight > placement.WeightMax {
		bad("weight %d: want 1 to %d", c.Weight, placement.WeightMax)
	}
	if c.Expect < 1 || c.Expect > ExpectMax {
		bad("expect %d: want 1 to %d", c.Expect, ExpectMax)
	}
	if c.ElectionWait < 50*time.Millisecond || c.ElectionWait > time.Minute {
		bad("election wait %v: want 50ms to 1m", c.ElectionWait)
	}
	return errors.Join(errs...)
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
