package systemtest

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// The bare pipe is what our writes are measured against: three processes with
// hashicorp/raft over its own TCP transport, raft-wal and badger, and nothing
// of ours. Entries of one blob each are proposed in the leader's process. It
// does not parse HTTP, probe audio, hash, keep a catalog or choose a group.

const (
	pipeNodes = 3
	// pipeInFlightMax proposals at a time: more did not make it faster.
	pipeInFlightMax = 32
	// pipeWait bounds each step of the pipe's life.
	pipeWait = 30 * time.Second
	// pipeEntriesMax of one AppendEntries: 16 of 64 KiB are 1 MiB. The product
	// has the same number.
	pipeEntriesMax = 16
)

// pipeOrder is what the parent writes to a node, one JSON value a line. Zero
// milliseconds asks whether it leads.
type pipeOrder struct {
	Bytes, InFlight int
	Millis          int64
}

// pipeResult is the node's answer.
type pipeResult struct {
	Leads   bool
	Ops     int
	Seconds float64
	P50, PL time.Duration // the median and the 99th percentile
	Error   string
}

// pipeSpec says who a node is.
type pipeSpec struct {
	Index int
	Dir   string
	Addrs []string
}

// pipe is the parent's side.
type pipe struct {
	tb    testing.TB
	nodes []*pipeNode
}

type pipeNode struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startPipe starts the three processes and waits for a leader.
func startPipe(tb testing.TB) *pipe {
	tb.Helper()
	p := &pipe{tb: tb}
	dir := tb.TempDir()
	var addrs []string
	for _, port := range freePorts(tb, pipeNodes) {
		addrs = append(addrs, loopback(port))
	}
	tb.Cleanup(p.close)
	for i := range pipeNodes {
		spec, err := json.Marshal(pipeSpec{i, filepath.Join(dir, strconv.Itoa(i)), addrs})
		if err != nil {
			tb.Fatal(err)
		}
		node := &pipeNode{cmd: exec.CommandContext(context.Background(), os.Args[0])}
		node.cmd.Env = append(os.Environ(), envPipe+"="+string(spec))
		node.cmd.Stderr = os.Stderr
		in, inErr := node.cmd.StdinPipe()
		out, outErr := node.cmd.StdoutPipe()
		if err := errors.Join(inErr, outErr, node.cmd.Start()); err != nil {
			tb.Fatal(err)
		}
		node.in, node.out = in, bufio.NewReader(out)
		p.nodes = append(p.nodes, node)
	}
	return p
}

// close ends the processes; a second call does nothing.
func (p *pipe) close() {
	for _, n := range p.nodes {
		_ = n.in.Close() // a node ends with its input
		_ = n.cmd.Process.Kill()
		_ = n.cmd.Wait()
	}
	p.nodes = nil
}

func (n *pipeNode) ask(order pipeOrder) (pipeResult, error) {
	var result pipeResult
	if err := json.NewEncoder(n.in).Encode(order); err != nil {
		return result, err
	}
	line, err := n.out.ReadBytes('\n')
	if err != nil {
		return result, err
	}
	if err := json.Unmarshal(line, &result); err != nil {
		return result, err
	}
	if result.Error != "" {
		return result, errors.New(result.Error) //nolint:err113 // it is a text from the child
	}
	return result, nil
}

// leader waits until one of the processes leads.
func (p *pipe) leader() *pipeNode {
	p.tb.Helper()
	var leader *pipeNode
	eventually(p.tb, pipeWait, "the pipe has a leader", func() error {
		for _, n := range p.nodes {
			result, err := n.ask(pipeOrder{})
			if err != nil {
				return err
			}
			if result.Leads {
				leader = n
				return nil
			}
		}
		return errNoLeader
	})
	return leader
}

var errNoLeader = errors.New("no leader yet")

// run proposes entries for that time, so many at a time, and returns what came of it
// with what the three processes used.
func (p *pipe) run(size, inFlight int, duration time.Duration) (pipeResult, usage) {
	p.tb.Helper()
	leader := p.leader()
	if _, err := leader.ask(pipeOrder{size, inFlight, 500}); err != nil { // warm up
		p.tb.Fatal(err)
	}
	var pids []int
	for _, n := range p.nodes {
		pids = append(pids, n.cmd.Process.Pid)
	}
	before := usageOf(p.tb, pids...)
	result, err := leader.ask(pipeOrder{size, inFlight, duration.Milliseconds()})
	if err != nil {
		p.tb.Fatal(err)
	}
	return result, usageOf(p.tb, pids...).minus(before)
}

// pipeMain is the child's side: a node that does what its input says.
func pipeMain() int {
	var spec pipeSpec
	err := json.Unmarshal([]byte(os.Getenv(envPipe)), &spec)
	if err == nil {
		err = pipeServe(spec, os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pipe:", err)
		return 1
	}
	return 0
}

func pipeServe(spec pipeSpec, in io.Reader, out io.Writer) error {
	r, closeAll, err := pipeOpen(spec)
	if err != nil {
		return err
	}
	defer closeAll()
	orders, results := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var order pipeOrder
		if err := orders.Decode(&order); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		result := pipeResult{Leads: r.State() == raft.Leader}
		if order.Millis > 0 {
			result = pipeLoad(r, order)
		}
		if err := results.Encode(result); err != nil {
			return err
		}
	}
}

// pipeOpen opens badger, raft-wal and raft with the settings of the product's
// blob groups.
func pipeOpen(spec pipeSpec) (*raft.Raft, func(), error) {
	silent := hclog.NewNullLogger()
	db, err := badger.Open(badger.DefaultOptions(filepath.Join(spec.Dir, "badger")).
		WithSyncWrites(false).WithValueThreshold(4 << 10).WithMemTableSize(16 << 20).
		WithNumCompactors(2).WithDetectConflicts(false).WithCompression(0).
		WithValueLogFileSize(128 << 20).WithLogger(nil))
	if err != nil {
		return nil, nil, err
	}
	walDir := filepath.Join(spec.Dir, "wal")
	if err := os.MkdirAll(walDir, 0o700); err != nil {
		return nil, nil, err
	}
	log, err := wal.Open(walDir, wal.WithSegmentSize(16<<20), wal.WithLogger(silent))
	if err != nil {
		return nil, nil, err
	}
	transport, err := raft.NewTCPTransportWithLogger(spec.Addrs[spec.Index], nil, pipeNodes, pipeWait, silent)
	if err != nil {
		return nil, nil, err
	}
	config := raft.DefaultConfig()
	config.LocalID = raft.ServerID(spec.Addrs[spec.Index])
	config.Logger = silent
	config.MaxAppendEntries = pipeEntriesMax
	config.BatchApplyCh = true
	config.SnapshotThreshold = 1 << 62 // the product's log is cut by bytes, later than this runs
	snapshots := raft.NewInmemSnapshotStore()
	var members raft.Configuration
	for _, a := range spec.Addrs {
		members.Servers = append(members.Servers,
			raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(a), Address: raft.ServerAddress(a)})
	}
	if err := raft.BootstrapCluster(config, log, log, snapshots, transport, members); err != nil {
		return nil, nil, err
	}
	r, err := raft.NewRaft(config, &pipeMachine{db: db}, log, log, snapshots, transport)
	return r, func() {
		_ = r.Shutdown().Error()
		_ = log.Close()
		_ = db.Close()
	}, err
}

// pipeLoad keeps proposals in flight for the time of the order.
func pipeLoad(r *raft.Raft, order pipeOrder) pipeResult {
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		took    timings
		failure error
		next    atomic.Uint64
	)
	began := time.Now()
	until := began.Add(time.Duration(order.Millis) * time.Millisecond)
	for range order.InFlight {
		wg.Go(func() {
			var own timings
			var err error
			for err == nil && time.Now().Before(until) {
				// Raft keeps the bytes until they are applied, so each needs its own.
				entry := make([]byte, order.Bytes)
				binary.BigEndian.PutUint64(entry, next.Add(1))
				start := time.Now()
				err = r.Apply(entry, pipeWait).Error()
				own = append(own, time.Since(start))
			}
			mu.Lock()
			defer mu.Unlock()
			took, failure = append(took, own...), errors.Join(failure, err)
		})
	}
	wg.Wait()
	result := pipeResult{
		Leads: true, Ops: len(took), Seconds: time.Since(began).Seconds(),
		P50: took.quantile(0.5), PL: took.quantile(0.99),
	}
	if failure != nil {
		result.Error = strings.ReplaceAll(failure.Error(), "\n", "; ")
	}
	return result
}

// pipeMachine puts each entry under its own key.
type pipeMachine struct{ db *badger.DB }

var _ raft.BatchingFSM = (*pipeMachine)(nil)

func (m *pipeMachine) Apply(l *raft.Log) any { return m.ApplyBatch([]*raft.Log{l})[0] }

func (m *pipeMachine) ApplyBatch(logs []*raft.Log) []any {
	batch := m.db.NewWriteBatch()
	defer batch.Cancel()
	results := make([]any, len(logs))
	for _, l := range logs {
		if l.Type != raft.LogCommand {
			continue
		}
		key := binary.BigEndian.AppendUint64([]byte("chunk/"), l.Index)
		if err := batch.Set(key, l.Data); err != nil {
			panic(err)
		}
	}
	if err := batch.Flush(); err != nil {
		panic(err)
	}
	return results
}

func (m *pipeMachine) Snapshot() (raft.FSMSnapshot, error) { return nil, raft.ErrNothingNewToSnapshot }
func (m *pipeMachine) Restore(io.ReadCloser) error         { return raft.ErrUnsupportedProtocol }
