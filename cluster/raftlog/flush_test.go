package raftlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/raft"

	"carillon/cluster/disktest"
)

var errRefused = errors.New("disk refuses")

// faults are what a disk does that refuses while it is told so, and whose writes wait while
// somebody holds it.
type faults struct {
	refuses atomic.Bool
	held    sync.RWMutex
}

func (f *faults) beforeWrite() error {
	f.held.RLock()
	defer f.held.RUnlock()
	return f.beforeSync()
}

func (f *faults) beforeSync() error {
	if f.refuses.Load() {
		return errRefused
	}
	return nil
}

// leader is a log on such a disk, of a node that leads while leads is true.
type leader struct {
	*Store

	t     *testing.T
	dir   string
	disk  faults
	leads atomic.Bool
	told  chan error // what Lead's second function was told
}

func newLeader(t *testing.T) *leader {
	t.Helper()
	l := &leader{t: t, dir: t.TempDir(), told: make(chan error, 100)}
	l.open()
	t.Cleanup(func() { _ = l.Close() }) // it may have been given up
	return l
}

func (l *leader) open() {
	l.t.Helper()
	disk := &disktest.Disk{VFS: Files(), BeforeWrite: l.disk.beforeWrite, BeforeSync: l.disk.beforeSync}
	var err error
	if l.Store, err = Open(l.dir, Config{FS: disk}, slog.New(slog.DiscardHandler)); err != nil {
		l.t.Fatal(err)
	}
	if err := l.SetUint64([]byte(keyTerm), 1000); err != nil { // above all terms of these tests
		l.t.Fatal(err)
	}
	l.leads.Store(true)
	l.Lead(l.leads.Load, func(err error) { l.told <- err })
}

// powerCut opens the log again as it is when its disk has stopped in this moment.
func (l *leader) powerCut() {
	l.t.Helper()
	l.disk.refuses.Store(true)
	_ = l.Close() // fails where something was ahead of the disk
	l.disk.refuses.Store(false)
	l.open()
}

func (l *leader) mustStore(logs ...*raft.Log) {
	l.t.Helper()
	if err := l.StoreLogs(logs); err != nil {
		l.t.Fatal(err)
	}
}

// want checks the log from first on.
func (l *leader) want(first uint64, logs []*raft.Log) {
	l.t.Helper()
	last, err := l.LastIndex()
	if err != nil {
		l.t.Fatal(err)
	}
	if end := first + uint64(len(logs)) - 1; len(logs) > 0 && last != end {
		l.t.Fatalf("it ends at %d, want %d", last, end)
	}
	for _, w := range logs {
		var got raft.Log
		if err := l.GetLog(w.Index, &got); err != nil || got.Term != w.Term || !bytes.Equal(got.Data, w.Data) {
			l.t.Fatalf("entry %d: term %d, %d bytes, %v; want term %d, %d bytes",
				w.Index, got.Term, len(got.Data), err, w.Term, len(w.Data))
		}
	}
}

func entry(index, term uint64) *raft.Log {
	data := fmt.Appendf(nil, "%d of %d", index, term)
	return &raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: data}
}

func over() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// Goal: a leader goes on before its disk has an entry, nobody is told that the disk has it,
// and a power cut leaves the log as it was before.
func TestWrittenAhead(t *testing.T) {
	l := newLeader(t)
	l.leads.Store(false)
	l.mustStore(entry(1, 1))
	l.leads.Store(true)
	l.disk.held.Lock()
	l.mustStore(entry(2, 1), entry(3, 1))
	l.mustStore(entry(4, 1))
	l.want(1, []*raft.Log{entry(1, 1), entry(2, 1), entry(3, 1), entry(4, 1)})
	if got := l.SyncedTo(4); got != 1 {
		t.Errorf("on disk up to %d, want 1", got)
	}
	if err := l.Synced(over(), 2); !errors.Is(err, context.Canceled) {
		t.Errorf("entry 2 is on disk while that is held: %v", err)
	}
	if err := l.Synced(over(), 1); err != nil {
		t.Errorf("entry 1: %v", err)
	}
	l.disk.refuses.Store(true) // before the write goes on
	l.disk.held.Unlock()
	l.powerCut()
	l.want(1, []*raft.Log{entry(1, 1)})
	l.mustStore(entry(2, 2))
	if err := l.Synced(t.Context(), 2); err != nil {
		t.Error(err)
	}
	l.powerCut()
	l.want(1, []*raft.Log{entry(1, 1), entry(2, 2)})
}

// Goal: what the disk refuses stays in the log, and raft hears of it with the next entry.
func TestRefusedAhead(t *testing.T) {
	l := newLeader(t)
	l.disk.refuses.Store(true)
	l.mustStore(entry(1, 1))
	if err := <-l.told; !errors.Is(err, errRefused) {
		t.Errorf("told %v", err)
	}
	if err := l.StoreLogs([]*raft.Log{entry(2, 1)}); !errors.Is(err, errRefused) {
		t.Errorf("stored beside what was refused: %v", err)
	}
	l.want(1, []*raft.Log{entry(1, 1)})
	if err := l.Synced(over(), 1); !errors.Is(err, context.Canceled) {
		t.Errorf("on disk: %v", err)
	}
	l.powerCut()
	if last, err := l.LastIndex(); last != 0 || err != nil {
		t.Errorf("it ends at %d, %v", last, err)
	}
}

// TestMembersAhead: a change of members waits for the disk, and so does what was before it.
func TestMembersAhead(t *testing.T) {
	l := newLeader(t)
	l.disk.held.Lock()
	l.mustStore(entry(1, 1))
	l.disk.held.Unlock()
	l.mustStore(&raft.Log{Index: 2, Term: 1, Type: raft.LogConfiguration})
	if got := l.SyncedTo(2); got != 2 {
		t.Errorf("on disk up to %d when members are stored, want 2", got)
	}
	l.disk.refuses.Store(true)
	err := l.StoreLog(&raft.Log{Index: 3, Term: 1, Type: raft.LogConfiguration})
	if !errors.Is(err, errRefused) {
		t.Errorf("members stored ahead of the disk: %v", err)
	}
}

// Goal: a new leader overrules what never came to the disk, and who waited for it hears that.
func TestOverruledAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeader(t)
		l.mustStore(entry(1, 1), entry(2, 1))
		if err := l.Synced(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		l.disk.refuses.Store(true)
		l.mustStore(entry(3, 1), entry(4, 1), entry(5, 1))
		l.leads.Store(false)
		waits := make(chan error, 1)
		go func() { waits <- l.Synced(context.Background(), 5) }()
		synctest.Wait() // until it does
		if err := l.DeleteRange(4, 5); err != nil {
			t.Fatal(err)
		}
		l.want(1, []*raft.Log{entry(1, 1), entry(2, 1), entry(3, 1)})
		if err := l.StoreLogs([]*raft.Log{entry(4, 2)}); !errors.Is(err, errRefused) {
			t.Errorf("a follower stores ahead of its disk: %v", err)
		}
		if err := l.DeleteRange(2, 3); err != nil {
			t.Fatal(err)
		}
		if err := <-waits; !errors.Is(err, ErrOverruled) {
			t.Errorf("waited for an entry that was overruled: %v", err)
		}
		l.want(1, []*raft.Log{entry(1, 1)})
		l.powerCut()
		l.want(1, []*raft.Log{entry(1, 1)})
	})
}

// Goal: a snapshot for all that is on the disk does not empty it while more is in memory only: a
// log whose end is noted and that holds nothing is damaged.
func TestCompactedAhead(t *testing.T) {
	l := newLeader(t)
	l.mustStore(entry(1, 1), entry(2, 1))
	if err := l.Synced(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	l.disk.refuses.Store(true)
	l.mustStore(entry(3, 1))
	if err := <-l.told; !errors.Is(err, errRefused) {
		t.Fatal(err)
	}
	if err := l.DeleteRange(1, 2); !errors.Is(err, errRefused) {
		t.Errorf("emptied before the disk had the rest: %v", err)
	}
	l.powerCut()
	l.want(1, []*raft.Log{entry(1, 1), entry(2, 1)})
	l.mustStore(entry(3, 2))
	if err := l.DeleteRange(1, 2); err != nil {
		t.Fatal(err)
	}
	l.powerCut()
	l.want(3, []*raft.Log{entry(3, 2)})
}

// Goal: closing does not wait for a disk that refuses.
func TestGivenUp(t *testing.T) {
	l := newLeader(t)
	l.disk.refuses.Store(true)
	l.mustStore(entry(1, 1))
	if err := <-l.told; !errors.Is(err, errRefused) {
		t.Fatal(err)
	}
	l.GiveUp()
	if err := l.Synced(t.Context(), 1); !errors.Is(err, ErrGivenUp) {
		t.Errorf("waited for what is given up: %v", err)
	}
	if err := l.Close(); !errors.Is(err, errRefused) {
		t.Errorf("closed with an entry that is not on disk: %v", err)
	}
	l.disk.refuses.Store(false)
	l.open()
}

// Goal: what is ahead of the disk is bounded in bytes and entries, and beyond that StoreLogs
// waits.
func TestAheadBound(t *testing.T) {
	for name, size := range map[string]int{"bytes": 256 << 10, "entries": 10} {
		t.Run(name, func(t *testing.T) {
			l := newLeader(t)
			l.disk.held.Lock()
			n := uint64(min(aheadBytesMax/size, aheadEntriesMax))
			var all []*raft.Log
			for i := uint64(1); i <= n+1; i++ {
				all = append(all, &raft.Log{Index: i, Term: 1, Data: bytes.Repeat([]byte{byte(i)}, size)})
			}
			for _, e := range all[:n] {
				l.mustStore(e)
			}
			if done, err := l.enqueue(all[n:], size); done || err != nil {
				t.Fatalf("one more than the bound: %v, %v", done, err)
			}
			l.disk.held.Unlock()
			l.mustStore(all[n])
			if err := l.Synced(t.Context(), n+1); err != nil {
				t.Fatal(err)
			}
			l.powerCut()
			l.want(1, all)
		})
	}
}

// TestAheadModel does at random what raft does, on a disk that loses its power now and then
// after it has refused for a while, and compares with what raft believes: between two power
// cuts it finds everything, and after one all that was said to be on the disk.
func TestAheadModel(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			m := &model{leader: newLeader(t), rnd: rand.New(rand.NewPCG(seed, 1)), first: 1, term: 1}
			for range 150 {
				m.step()
				m.want(m.first, m.logs)
			}
		})
	}
}

type model struct {
	*leader

	rnd    *rand.Rand
	first  uint64
	term   uint64
	logs   []*raft.Log // from first on
	synced uint64      // everything up to it was said to be on disk
}

func (m *model) end() uint64 { return m.first + uint64(len(m.logs)) }

func (m *model) step() {
	m.t.Helper()
	switch what := m.rnd.IntN(12); {
	case what < 5:
		m.store()
	case what < 6:
		m.leads.Store(!m.leads.Load())
		m.term++
	case what < 7 && m.rnd.IntN(4) == 0:
		m.disk.refuses.Store(true) // until the power is cut
	case what < 8 && !m.disk.refuses.Load():
		if err := m.Synced(m.t.Context(), m.end()-1); err != nil {
			m.t.Fatal(err)
		}
		m.synced = m.end() - 1
	case what < 9:
		m.overrule()
	case what < 10:
		m.compact()
	case what < 11:
		m.synced = max(m.synced, m.SyncedTo(m.end()-1))
	default:
		m.cut()
	}
}

// store appends some entries.
func (m *model) store() {
	m.t.Helper()
	var logs []*raft.Log
	for i := range uint64(1 + m.rnd.IntN(4)) {
		logs = append(logs, entry(m.end()+i, m.term))
	}
	switch err := m.StoreLogs(logs); {
	case err == nil:
		m.logs = append(m.logs, logs...)
		if !m.leads.Load() {
			m.synced = m.end() - 1
		}
	case !m.disk.refuses.Load():
		m.t.Fatalf("entries %d on: %v", logs[0].Index, err)
	}
}

// overrule removes some of the newest entries.
func (m *model) overrule() {
	m.t.Helper()
	keep := m.rnd.IntN(len(m.logs) + 1)
	if keep == 0 || keep == len(m.logs) { // a log that is emptied goes on at any index
		return
	}
	if m.disk.refuses.Load() { // what was written and not synced may be there again after a cut
		return
	}
	if err := m.DeleteRange(m.first+uint64(keep), m.end()-1); err != nil {
		m.t.Fatal(err)
	}
	m.leads.Store(false)
	m.term++
	m.logs = m.logs[:keep]
	m.synced = min(m.synced, m.end()-1)
}

// compact removes some of the oldest entries, of those that are on disk.
func (m *model) compact() {
	m.t.Helper()
	have := m.SyncedTo(m.end() - 1)
	if have <= m.first {
		return
	}
	n := 1 + m.rnd.Uint64N(have-m.first)
	if err := m.DeleteRange(m.first, m.first+n-1); err != nil {
		if m.disk.refuses.Load() {
			return
		}
		m.t.Fatal(err)
	}
	m.first, m.logs = m.first+n, m.logs[n:]
	m.synced = max(m.synced, m.first-1)
}

// cut takes the power away. Some of what nobody was told may be there.
func (m *model) cut() {
	m.t.Helper()
	m.powerCut()
	m.term++
	last, err := m.LastIndex()
	if err != nil {
		m.t.Fatal(err)
	}
	if len(m.logs) > 0 && last < m.synced || last >= m.end() {
		m.t.Fatalf("it ends at %d; %d was on disk, %d the newest", last, m.synced, m.end()-1)
	}
	if last == 0 {
		m.logs = nil
		return
	}
	m.logs = m.logs[:last+1-m.first]
}
