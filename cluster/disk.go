package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"carillon/blobstore"
	"carillon/cluster/gossip"
	"carillon/cluster/raftlog"
)

// Defaults of DiskLimits. The percent serve small disks, the bytes large ones:
// of 100 GB the stop line is 2 GiB and not 5 GB.
const (
	DiskWarnBytesDefault     = 8 << 30
	DiskWarnPercentDefault   = 10
	DiskStopBytesDefault     = 2 << 30
	DiskStopPercentDefault   = 5
	DiskResumeBytesDefault   = 3 << 30
	DiskResumePercentDefault = 7
	// DiskReserveBytesDefault is a value-log file and half: what a collection
	// writes before it frees anything.
	DiskReserveBytesDefault = 192 << 20
)

const (
	// diskCheckWait is how often a node looks at its disk. Between two looks it
	// counts what it writes itself.
	diskCheckWait = 500 * time.Millisecond
	// diskWriteFactor is what a byte of a log entry takes on the disk: once in
	// the log and once in the value log.
	diskWriteFactor = 2
	// diskFloorBytes is what must stay free beside a new log segment of every
	// group: a memtable that is flushed, the table it becomes, a compaction.
	diskFloorBytes = 64 << 20
	// diskSmallBytes: entries of removals, seals and elections are let through
	// further down, to a quarter of the floor: they are what frees space.
	diskSmallBytes = 16 << 10
	// diskSweepWait and diskSweepGrace replace the configured ones, if those
	// are longer, while the disk is full: who deletes wants the space. Five
	// minutes let nearly every player finish what it has open.
	diskSweepWait  = 15 * time.Second
	diskSweepGrace = 5 * time.Minute
	// reserveFile holds space for the way out of a disk that others filled up.
	reserveFile = "reserve"
)

// DiskLimits say how full the disk of the data directory may become. A limit
// is so many bytes free or so many percent of the disk, whichever is less; a
// zero byte number takes the default, a zero percent is not considered.
type DiskLimits struct {
	WarnBytes, StopBytes, ResumeBytes       int64
	WarnPercent, StopPercent, ResumePercent int
	// ReserveBytes are kept in a file that is given up when the disk is full to
	// the floor; negative: none.
	ReserveBytes int64
}

func (l *DiskLimits) withDefaults() {
	orDefault(&l.WarnBytes, DiskWarnBytesDefault)
	orDefault(&l.StopBytes, DiskStopBytesDefault)
	orDefault(&l.ResumeBytes, DiskResumeBytesDefault)
	orDefault(&l.ReserveBytes, DiskReserveBytesDefault)
}

// diskLevel is how full a disk is.
type diskLevel int32

// The levels of a disk, each including those before it.
const (
	diskRoomy diskLevel = iota
	diskLow             // below the warn line
	diskFull            // below the stop line: no uploads, no new rows
	diskOut             // below half of it: no recordings either
)

// String is the word for it in status and gossip.
func (l diskLevel) String() string {
	switch l {
	case diskRoomy:
		return "ok"
	case diskLow:
		return "low"
	case diskFull:
		return "full"
	case diskOut:
		return "out"
	}
	return "unknown"
}

func parseDiskLevel(s string) diskLevel {
	for _, l := range []diskLevel{diskLow, diskFull, diskOut} {
		if s == l.String() {
			return l
		}
	}
	return diskRoomy
}

// DiskStatus is how full a node's disk is, in bytes.
type DiskStatus struct {
	Free   int64  `json:"free_bytes"`
	Total  int64  `json:"total_bytes"`
	Level  string `json:"level"` // ok, low, full, out
	Warn   int64  `json:"warn_below_bytes"`
	Stop   int64  `json:"stop_below_bytes"`
	Resume int64  `json:"resume_above_bytes"`
}

// diskLines are the limits in bytes of one disk.
type diskLines struct{ warn, resume, stop, out, floor int64 }

// lines works the limits out for a disk of total bytes and a node of so many
// groups. Whatever was configured, the stop line leaves room for what must
// still work below it.
func (l DiskLimits) lines(total int64, groups int) diskLines {
	line := func(bytes int64, percent int) int64 {
		if percent <= 0 {
			return bytes
		}
		return min(bytes, total/100*int64(percent))
	}
	floor := int64(groups)*raftlog.SegmentBytes + diskFloorBytes
	stop := max(line(l.StopBytes, l.StopPercent), 2*floor)
	resume := max(line(l.ResumeBytes, l.ResumePercent), stop+stop/8)
	return diskLines{
		warn: max(line(l.WarnBytes, l.WarnPercent), resume), resume: resume, stop: stop,
		out: max(stop/2, floor+floor/4), floor: floor,
	}
}

// level is how full the disk is with so many bytes free, having been at
// before: what was left is come back to only when the disk is clear of it.
func (d diskLines) level(before diskLevel, free int64) diskLevel {
	now := diskRoomy
	switch {
	case free < d.out:
		now = diskOut
	case free < d.stop:
		now = diskFull
	case free < d.warn:
		now = diskLow
	}
	switch {
	case now >= before:
		return now
	case before == diskOut && free < d.stop:
		return diskOut
	case before >= diskFull && free < d.resume:
		return diskFull
	case before == diskLow && free < d.warn+d.warn/16:
		return diskLow
	}
	return now
}

// diskSpace says how many bytes of a file system are free for us, and in all.
type diskSpace func(dir string) (free, total int64, err error)

func statfs(dir string) (free, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("space of %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, nil
}

// disk watches the file system of the data directory and says what may still
// be written. See DESIGN.md, "A full disk".
type disk struct {
	n     *Node
	space diskSpace

	level atomic.Int32 // diskLevel of this node
	worst atomic.Int32 // the highest of all live nodes
	free  atomic.Int64 // as last seen, less what was written since
	floor atomic.Int64
	stop  atomic.Int64

	mu       sync.Mutex
	total    int64     // guarded by mu
	lines    diskLines // guarded by mu
	told     diskLevel // what the others were told, guarded by mu
	reserved bool      // guarded by mu
}

func newDisk(n *Node, space diskSpace) *disk {
	if space == nil {
		space = statfs
	}
	return &disk{n: n, space: space}
}

// run looks at the disk again and again.
func (d *disk) run() {
	tick := time.NewTicker(diskCheckWait)
	defer tick.Stop()
	for {
		d.look()
		select {
		case <-tick.C:
		case <-d.n.ctx.Done():
			return
		}
	}
}

// look measures, tells the others of a change, and learns how they are.
func (d *disk) look() {
	free, total, err := d.space(d.n.cfg.Dir)
	if err != nil {
		d.n.log.Error("free space unknown", "error", err)
		return
	}
	lines := d.n.cfg.Disk.lines(total, d.n.cfg.Shards+1)
	before := diskLevel(d.level.Load())
	now := lines.level(before, free)
	d.free.Store(free)
	d.floor.Store(lines.floor)
	d.stop.Store(lines.stop)
	d.level.Store(int32(now))
	d.mu.Lock()
	d.total, d.lines = total, lines
	told := d.told
	d.told = now
	d.mu.Unlock()
	d.keepReserve(free, lines)
	if told != now {
		d.report(told, now, free, lines)
		word := now.String()
		if now == diskRoomy {
			word = ""
		}
		if err := d.n.gossip.Update(func(m *gossip.Member) { m.Disk = word }); err != nil {
			d.n.log.Debug("state of the disk not told", "error", err)
		}
	}
	worst := now
	for _, m := range d.n.gossip.Members() {
		if m.Alive && m.ID != d.n.id {
			worst = max(worst, parseDiskLevel(m.Disk))
		}
	}
	d.worst.Store(int32(worst))
}

func (d *disk) report(before, now diskLevel, free int64, lines diskLines) {
	log := d.n.log.With("free_bytes", free, "was", before.String(), "is", now.String())
	switch {
	case now == diskOut:
		log.Error("disk is full: recordings are refused too; delete something", "out_below_bytes", lines.out)
	case now == diskFull && before < now:
		log.Error("disk is full: uploads are refused, playing goes on", "stop_below_bytes", lines.stop)
	case now == diskLow && before < now:
		log.Warn("disk is filling up", "warn_below_bytes", lines.warn)
	default:
		log.Info("disk has room again", "resume_above_bytes", lines.resume)
	}
}

// keepReserve makes the reserve while there is plenty of room, and gives it up
// at the floor, where the others who fill the disk have left us nothing else.
func (d *disk) keepReserve(free int64, lines diskLines) {
	size := d.n.cfg.Disk.ReserveBytes
	path := filepath.Join(d.n.cfg.Dir, reserveFile)
	d.mu.Lock()
	reserved := d.reserved
	d.mu.Unlock()
	var err error
	switch {
	case size > 0 && !reserved && free > lines.warn+size:
		err = allocate(path, size)
		reserved = err == nil
	case free < lines.floor:
		if err = os.Remove(path); err == nil {
			d.n.log.Warn("reserve given up", "bytes", size)
		} else if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		reserved = false
	}
	if err != nil {
		d.n.log.Warn("reserve", "error", err)
	}
	d.mu.Lock()
	d.reserved = reserved
	d.mu.Unlock()
}

// allocate makes a file of size bytes that are really there.
func allocate(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600) //nolint:gosec // in our own directory
	if err != nil {
		return fmt.Errorf("reserve: %w", err)
	}
	err = errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, size), f.Close())
	if err != nil {
		return errors.Join(fmt.Errorf("reserve %d bytes: %w", size, err), os.Remove(path))
	}
	return nil
}

// status is how full the disk is, for people.
func (d *disk) status() DiskStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	return DiskStatus{
		Free: d.free.Load(), Total: d.total, Level: diskLevel(d.level.Load()).String(),
		Warn: d.lines.warn, Stop: d.lines.stop, Resume: d.lines.resume,
	}
}

// full says whether space is short, so that what can give some back should.
func (d *disk) full() bool { return diskLevel(d.level.Load()) >= diskFull }

// take is asked by the log before it writes an entry of so many bytes. Below
// the floor a node takes no more, though the others go on: what would follow is
// a SIGBUS in a mapped file that cannot grow. The leader offers it again.
func (d *disk) take(bytes int) error {
	floor := d.floor.Load()
	if bytes <= diskSmallBytes {
		floor /= 4
	}
	left := d.free.Add(-int64(bytes) * diskWriteFactor)
	if left < d.stop.Load() && !d.full() { // sooner than the next look
		d.level.CompareAndSwap(int32(diskRoomy), int32(diskFull))
		d.level.CompareAndSwap(int32(diskLow), int32(diskFull))
		d.worst.CompareAndSwap(int32(diskRoomy), int32(diskFull))
		d.worst.CompareAndSwap(int32(diskLow), int32(diskFull))
	}
	if left < floor {
		d.free.Add(int64(bytes) * diskWriteFactor)
		return fmt.Errorf("log entry of %d bytes, %d free: %w", bytes, left, blobstore.ErrNoSpace)
	}
	return nil
}

// sweepTimes are the interval and the grace of the sweep.
func (n *Node) sweepTimes() (wait, grace time.Duration) {
	if diskLevel(n.disk.worst.Load()) < diskFull {
		return n.cfg.SweepWait, n.cfg.SweepGrace
	}
	return min(n.cfg.SweepWait, diskSweepWait), min(n.cfg.SweepGrace, diskSweepGrace)
}
