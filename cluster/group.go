package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"carillon/blobstore"
	"carillon/cluster/command"
	"carillon/cluster/peer"
	"carillon/cluster/placement"
	"carillon/cluster/raftlog"
	"carillon/cluster/raftnet"
	"carillon/cluster/snapshot"
	"carillon/cluster/statefile"
	"carillon/internal/hlog"
)

const (
	// appendEntriesMax bounds one AppendEntries by number, as raft can only
	// count: 16 entries of at most 256 KiB are 4 MiB.
	appendEntriesMax = 16
	// catalogAppendEntriesMax may be more, since catalog entries are small.
	catalogAppendEntriesMax = 64
	// commitWait is how soon a follower hears of a commit if nothing else tells
	// it. Hints do (raftnet), so this is only for a hint that was lost.
	commitWait = 500 * time.Millisecond
	// neverEntries switches raft's own snapshot trigger off: it counts entries,
	// and ours may be 100 bytes or 256 KiB. See snapshot.go.
	neverEntries = 1 << 62
	// leaseShare is the part of the election timeout, in hundredths, after which a
	// leader steps down that hears from no majority. Heartbeats are answered when the
	// disk of a follower has done what came before them: at half of the timeout, as
	// is usual, a sync of a third of it ended a leadership that nobody contested. It
	// is less than the whole so that a leader that is cut off gives up before another
	// can be elected.
	leaseShare = 90
	// applyWait bounds how long a proposal waits for a place in the leader's
	// queue. It does not bound the commit.
	applyWait = 5 * time.Second
)

// group is this node's membership in one raft group. A node has as many as it
// is a member of: the catalog and some blob groups.
type group struct {
	name      string
	raft      *raft.Raft
	fsm       machine
	log       *slog.Logger
	store     *raftlog.Store
	snapshots raft.SnapshotStore
	transport *raftnet.Transport
	// established is the term in which this node, as leader, has applied all
	// that was committed before it led; 0 if it does not lead. Only then can it
	// say how far the group is.
	established atomic.Uint64
	since       atomic.Int64  // when it was established, Unix nanoseconds
	position    atomic.Uint64 // log position of the last command applied
	applied     atomic.Int64  // bytes of commands applied since the last snapshot
	trailing    trailing
	turns       turns
	handAgain   atomic.Int64 // when leadership may be handed over again, Unix nanoseconds
	moving      atomic.Bool  // a change of members is under way
	stall       *stall
	refusal     atomic.Pointer[chan struct{}] // closed when the disk refuses the log, and replaced
	whole       atomic.Bool                   // this node has had everything since it opened the group

	stop      context.CancelFunc // ends a pull; raft waits for it
	closeOnce sync.Once
	closed    chan struct{}
	wg        sync.WaitGroup
}

// machine is the state machine of a group.
type machine interface {
	raft.FSM
	raft.BatchingFSM
	// check says whether a command can be read.
	check(cmd []byte) error
	// count is told of every command applied, see snapshot.go.
	count(func(index uint64, bytes int))
	// keep is told where the log has the data of an entry on the disk.
	keep(places func(*raft.Log) (blobstore.Kept, bool))
	// recover brings the state in line with the newest snapshot if the node
	// stopped while it restored it.
	recover(raft.SnapshotStore) error
}

// groupSpec is what a group needs beside the node's common parts.
type groupSpec struct {
	name         string
	dir          string // the node's raft directory
	nodeID       string
	members      []string // of the bootstrap; nil when another node adds us
	fsm          machine
	electionWait time.Duration
	snapshotMax  int64
	room         func(bytes int) error // before entries are written
	full         func() bool           // whether space is short
	stall        time.Duration         // longest write before it gives up leading
	fs           diskFS
	segmentBytes int
	declines     func() error // to be handed leadership
	mute         bool         // it does not vote, see rejoin.go
	chatter      *slog.Logger // for raft and its stores
}

// openGroup opens the log and starts raft. A group without any state is
// bootstrapped with spec.members, the same on every one of them; a group with
// state never is.
func openGroup(
	spec groupSpec, link *peer.Link, all *raftnet.Transports, log *slog.Logger,
) (_ *group, err error) {
	g := &group{
		name: spec.name, fsm: spec.fsm, closed: make(chan struct{}),
		log: log.With("group", spec.name), stall: newStall(spec.stall),
	}
	refusal := make(chan struct{})
	g.refusal.Store(&refusal)
	dir := filepath.Join(spec.dir, spec.name)
	if g.store, err = raftlog.Open(filepath.Join(dir, "wal"), raftlog.Config{
		FS: spec.fs.of(spec.name, raftlog.Files()), SegmentBytes: spec.segmentBytes, Room: spec.room,
		Writing:  func() func() { return g.stall.enter(&g.stall.writing) },
		Snapshot: func() (uint64, uint64) { return snapshot.Newest(g.snapshots) },
	}, g.log); err != nil {
		return nil, err //nolint:wrapcheck // says enough
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.store.Close())
		}
	}()
	if err = snapshot.ForgetHalfway(dir, g.log); err != nil {
		return nil, err
	}
	if g.snapshots, err = snapshot.Open(dir, g.log); err != nil {
		return nil, err
	}
	at, _ := snapshot.Newest(g.snapshots)
	if err = g.store.Follows(at); err != nil {
		return nil, fmt.Errorf("log of group %s: %w", spec.name, err)
	}
	// What is synced in a directory that was made a moment ago is lost in a power
	// cut if the name of that directory is not synced, too.
	for _, parent := range []string{dir, spec.dir, filepath.Dir(spec.dir)} {
		if err = statefile.SyncDir(parent); err != nil {
			return nil, err
		}
	}
	if err = spec.fsm.recover(g.snapshots); err != nil {
		return nil, fmt.Errorf("group %s: %w", spec.name, err)
	}
	// What decides about messages is said before the first: a member that is to be
	// mute may not vote in the first moment either.
	g.transport = raftnet.Open(raftnet.Config{
		ID: spec.nodeID, Group: spec.name, ElectionWait: spec.electionWait, Mute: spec.mute,
		Stalled: g.stallError, Declines: spec.declines, Mend: g.store.Mend, Log: g.store,
	}, link, all, g.log)
	conf := raftConfig(spec)
	if err = g.bootstrap(conf, spec.members); err == nil {
		spec.fsm.count(g.countApplied)
		spec.fsm.keep(g.store.Kept)
		fsm := watched{snapshot.NewRestorer(spec.fsm, dir, g.snapshots), g.stall}
		g.raft, err = raft.NewRaft(conf, &durable{BatchingFSM: fsm, log: g.store},
			g.store, g.store, g.snapshots, g.transport)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("group %s: %w", spec.name, err), g.transport.Close())
	}
	g.turns.observe(g.raft)
	leads := func() bool { return g.raft.State() == raft.Leader }
	g.transport.Start(leads)
	g.store.Lead(leads, g.refused)
	g.wg.Go(g.watchLeadership)
	g.wg.Go(func() { g.snapshotLoop(spec.snapshotMax, spec.full) })
	return g, nil
}

// raftConfig sets every option of raft; none is left to its default.
func raftConfig(spec groupSpec) *raft.Config {
	entries := appendEntriesMax
	if spec.name == placement.CatalogGroup {
		entries = catalogAppendEntriesMax
	}
	return &raft.Config{
		ProtocolVersion:          raft.ProtocolVersionMax,
		HeartbeatTimeout:         spec.electionWait,
		ElectionTimeout:          spec.electionWait,
		LeaderLeaseTimeout:       spec.electionWait * leaseShare / 100,
		CommitTimeout:            commitWait,
		MaxAppendEntries:         entries,
		BatchApplyCh:             true,
		ShutdownOnRemove:         false,
		TrailingLogs:             trailingEntriesMin,
		SnapshotInterval:         time.Hour, // our own loop decides, see snapshot.go
		SnapshotThreshold:        neverEntries,
		LocalID:                  raft.ServerID(spec.nodeID),
		Logger:                   hlog.HCLog(spec.chatter.With("group", spec.name), "raft"),
		NoSnapshotRestoreOnStart: true, // both databases survive a restart
		PreVoteDisabled:          false,
		NoLegacyTelemetry:        true,
		RestoreCommittedLogs:     false,
	}
}

func (g *group) bootstrap(conf *raft.Config, members []string) error {
	has, err := raft.HasExistingState(g.store, g.store, g.snapshots)
	if err != nil {
		return fmt.Errorf("look for existing state: %w", err)
	}
	if has || !slices.Contains(members, string(conf.LocalID)) {
		return nil
	}
	var c raft.Configuration
	for _, id := range members {
		c.Servers = append(c.Servers, raft.Server{
			Suffrage: raft.Voter, ID: raft.ServerID(id), Address: raft.ServerAddress(id),
		})
	}
	if err := raft.BootstrapCluster(conf, g.store, g.store, g.snapshots, g.transport, c); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	return nil
}

// propose runs cmd through the group if this node leads it, and returns its
// log position and what the state machine made of it. errNotLeader: it was not
// proposed. ErrUnavailable: it may or may not have been committed.
func (g *group) propose(ctx context.Context, cmd []byte) (uint64, any, error) {
	if len(cmd) > command.BytesMax {
		return 0, nil, fmt.Errorf("command of %d bytes: %w", len(cmd), blobstore.ErrTooLarge)
	}
	stalled, refused := g.stall.begins(), *g.refusal.Load()
	if g.raft.State() != raft.Leader || g.stall.stalled() {
		return 0, nil, errNotLeader
	}
	future := g.raft.Apply(cmd, applyWait)
	done := make(chan error, 1)
	go func() { done <- future.Error() }() // raft's futures know no context
	select {
	case err := <-done:
		if err != nil {
			return 0, nil, g.proposalError(err)
		}
		return future.Index(), future.Response(), nil
	case <-stalled:
		return 0, nil, fmt.Errorf("%w: %w", blobstore.ErrUnavailable, hangs(g.name))
	case <-refused: // the others may have committed it, and this node not apply it
		return 0, nil, fmt.Errorf("group %s: %w: disk refuses the log", g.name, blobstore.ErrUnavailable)
	case <-ctx.Done():
		return 0, nil, fmt.Errorf("group %s: %w: %w", g.name, blobstore.ErrUnavailable, ctx.Err())
	}
}

// proposalError tells "not proposed" from "nobody knows".
func (g *group) proposalError(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress),
		errors.Is(err, raft.ErrEnqueueTimeout):
		return errNotLeader
	case errors.Is(err, raft.ErrRaftShutdown):
		return fmt.Errorf("group %s: %w", g.name, blobstore.ErrClosed)
	}
	return fmt.Errorf("group %s: %w: %w", g.name, blobstore.ErrUnavailable, err)
}

// leader is the id of the node that leads as far as this member knows, or "".
func (g *group) leader() string {
	_, id := g.raft.LeaderWithID()
	return string(id)
}

// watchLeadership keeps established true to what raft says.
func (g *group) watchLeadership() {
	for {
		select {
		case lead, ok := <-g.raft.LeaderCh():
			if !ok {
				return
			}
			if !lead {
				g.established.Store(0)
				g.log.Info("lost leadership")
				continue
			}
			if err := g.raft.Barrier(0).Error(); err != nil {
				g.log.Warn("new leader could not commit its barrier", "error", err)
				continue
			}
			g.since.Store(time.Now().UnixNano())
			g.established.Store(g.raft.CurrentTerm())
			g.log.Info("leads", "term", g.raft.CurrentTerm())
		case <-g.turns.seen:
			g.turns.tell()
		case <-g.closed:
			return
		}
	}
}

// refused makes raft give up leading after the disk has refused entries that raft takes for
// stored: it does when it is refused another one.
func (g *group) refused(err error) {
	g.log.Error("disk refuses the log; restart this node when it does not any more", "error", err)
	next := make(chan struct{})
	close(*g.refusal.Swap(&next)) // whoever waits for what is not on the disk asks the next leader
	g.raft.Barrier(applyWait)
}

// leads says whether this node leads and has applied all that came before.
func (g *group) leads() bool {
	term := g.established.Load()
	return term != 0 && !g.stall.stalled() && g.raft.State() == raft.Leader && g.raft.CurrentTerm() == term
}

// verifyLeads asks a majority whether this node still leads.
func (g *group) verifyLeads() error {
	if !g.leads() {
		return errNotLeader
	}
	defer g.transport.Hurry()()
	if err := g.raft.VerifyLeader().Error(); err != nil {
		return errNotLeader
	}
	return nil
}

// answerAll waits until what was committed is applied: of what waits for the state machine when
// raft shuts down nobody ever hears.
func (g *group) answerAll() {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range applyWait / time.Millisecond {
		if g.raft.Stats()["fsm_pending"] == "0" {
			return
		}
		<-tick.C
	}
}

// close hands leadership to another member if there is one, so that nobody
// waits for an election, and stops.
func (g *group) close() error {
	var err error
	g.closeOnce.Do(func() {
		if g.raft.State() == raft.Leader && len(g.raft.GetConfiguration().Configuration().Servers) > 1 {
			if terr := g.raft.LeadershipTransfer().Error(); terr != nil {
				g.log.Info("leadership not transferred", "error", terr)
			}
		}
		close(g.closed)
		if g.stop != nil {
			g.stop()
		}
		g.store.GiveUp()
		g.answerAll()
		err = g.raft.Shutdown().Error()
		g.wg.Wait()
		err = errors.Join(err, g.transport.Close(), g.store.Close())
	})
	if err != nil {
		return fmt.Errorf("close group %s: %w", g.name, err)
	}
	return nil
}
