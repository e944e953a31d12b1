package forms

import (
	"container/list"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"carillon/blobstore"
)

const (
	// BytesMaxDefault holds 18 hours of 8 kHz PCM, which is every prompt and
	// greeting of a large system.
	BytesMaxDefault = 1 << 30
	// freeBytesMin of the disk are left alone: recordings need them more.
	freeBytesMin = 512 << 20
	// lookEvery is how often the disk is looked at: it fills in minutes.
	lookEvery = 10 * time.Second
	// makersPerCPU conversions run at once for each processor: two keep it busy
	// while one waits for the shelf.
	makersPerCPU = 2
	// makerWait bounds how long a conversion waits for its turn: mod_shout
	// cannot be hung up on while it waits for its first byte.
	makerWait = 5 * time.Second
	// directMax bounds the conversions that cannot be kept and so are made for
	// one reader each, at his speed: some 100 KiB of memory each.
	directMax = 256
	// orphanBytesMax is how large a form may be to be finished when nobody
	// reads it any more; the next call wants it soon.
	orphanBytesMax = 16 << 20
	// aheadBytesMax is how far before what is made a reader waits for it; one
	// who wants what is later gets it made for himself.
	aheadBytesMax = 2 << 20
)

// ErrBusy is returned when more conversions are wanted than the node makes at
// once.
var ErrBusy = errors.New("too many conversions at once")

// Key names a form of a content.
type Key [32]byte

// String is 64 lower case hexadecimal digits.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// Recipe says how a form is made. Make must give the same bytes each time, on
// every node: several readers and several nodes share them.
type Recipe struct {
	Key Key
	// Size in bytes. A conversion that gives less is filled up with Fill, one
	// that gives more is cut: the length has been promised by then.
	Size int64
	Fill byte
	// Make opens the converted sound at an offset. ctx ends when nobody wants it
	// any more.
	Make func(ctx context.Context, offset int64) (io.ReadCloser, error)
}

// Config of a Cache.
type Config struct {
	// Dir is the cache's alone; "": nothing is kept.
	Dir      string
	BytesMax int64 // of all files; 0: BytesMaxDefault
}

// Deps are the parts a Cache stands on.
type Deps struct {
	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: counted and never shown
	// Free says how many bytes the disk has left; nil asks the file system.
	Free func() (int64, error)
	// Room returns an error when the disk is to take nothing more. nil: never.
	Room func() error
}

// Cache of converted forms. Its methods may be called concurrently.
type Cache struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	free    func() (int64, error)
	room    func() error
	blocks  sync.Pool // of *[]byte of BlockBytes
	makers  chan struct{}
	direct  chan struct{}
	stop    context.Context //nolint:containedctx // of the makers; ended by Close
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex // guards the fields below, and refs and place of every file
	files  map[Key]*file
	used   *list.List // of *file, the last used first
	bytes  int64      // of all files, those being made with their announced size
	closed bool
}

// Open opens the cache in cfg.Dir with what it holds of former lives.
func Open(cfg Config, deps Deps) (*Cache, error) {
	if cfg.BytesMax == 0 {
		cfg.BytesMax = BytesMaxDefault
	}
	m, err := newMetrics(deps.Metrics)
	if err != nil {
		return nil, err
	}
	c := &Cache{
		cfg: cfg, log: deps.Log.With("component", "forms"), metrics: m, free: deps.Free, room: deps.Room,
		makers: make(chan struct{}, makersPerCPU*runtime.GOMAXPROCS(0)),
		direct: make(chan struct{}, directMax),
		files:  make(map[Key]*file), used: list.New(),
	}
	c.blocks.New = func() any {
		b := make([]byte, blobstore.BlockBytes)
		return &b
	}
	c.stop, c.cancel = context.WithCancel(context.Background())
	if c.free == nil {
		c.free = c.statfs
	}
	if cfg.Dir == "" {
		return c, nil
	}
	if err := c.load(); err != nil {
		m.unregister()
		c.cancel()
		return nil, err
	}
	c.running.Go(func() { c.tend(c.stop) })
	return c, nil
}

// tend gives all back that nobody reads when the disk is full: what was
// converted can be made again, what others want to write cannot.
func (c *Cache) tend(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !c.full(0) {
			continue
		}
		if freed := c.Trim(c.cfg.BytesMax); freed > 0 {
			c.log.Warn("disk is full, converted forms were dropped", "bytes", freed)
		}
	}
}

// full says whether the disk has no room for n bytes more.
func (c *Cache) full(n int64) bool {
	if c.room != nil && c.room() != nil {
		return true
	}
	free, err := c.free()
	return err != nil || free-n < freeBytesMin
}

func (c *Cache) statfs() (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(c.cfg.Dir, &s); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", c.cfg.Dir, err)
	}
	return int64(s.Bavail) * s.Bsize, nil
}

// Open returns a reader of the form. Its first bytes may still have to be made:
// reading waits for them. It returns ErrBusy, or what Make returned.
func (c *Cache) Open(ctx context.Context, r Recipe) (*blobstore.Reader, error) {
	v := &view{cache: c, recipe: r}
	f, err := c.acquire(r) //nolint:contextcheck // a form outlives who asked for it first
	if err != nil {
		return nil, err
	}
	v.file = f
	if f == nil {
		c.metrics.opened("direct")
		if v.direct, err = c.openDirect(ctx, r, 0); err != nil {
			return nil, err
		}
	}
	return blobstore.NewReader(ctx, v), nil
}

// acquire returns the file of a form, begun if need be, or nil when it cannot
// be kept.
func (c *Cache) acquire(r Recipe) (*file, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, blobstore.ErrClosed
	}
	if f := c.files[r.Key]; f != nil {
		if f.size == r.Size && f.open(c) == nil {
			c.metrics.opened("hit")
			c.used.MoveToFront(f.place)
			f.refs++
			return f, nil
		}
		c.dropLocked(f)
		c.metrics.dropped("corrupt")
	}
	if !c.roomLocked(r.Size) {
		return nil, nil //nolint:nilnil // not kept is an answer
	}
	f, err := c.create(r)
	if err != nil {
		c.log.Warn("form is not kept", "error", err)
		return nil, nil //nolint:nilnil // not kept is an answer
	}
	c.metrics.opened("made")
	f.refs = 1
	c.insertLocked(f, true)
	ctx, cancel := context.WithCancel(c.stop)
	f.cancel = cancel
	c.running.Go(func() {
		defer cancel()
		c.fill(ctx, f, r)
	})
	return f, nil
}

// roomLocked makes room for a file of that size by dropping those that were
// not used for longest, and says whether there is room.
func (c *Cache) roomLocked(size int64) bool {
	// One form may not push out all others.
	if c.cfg.Dir == "" || size > c.cfg.BytesMax/2 {
		return false
	}
	enough := func() bool { return c.bytes+size <= c.cfg.BytesMax && !c.full(size) }
	for at := c.used.Back(); !enough(); {
		if at == nil {
			return false
		}
		f, _ := at.Value.(*file)
		at = at.Prev()
		if f.refs == 0 {
			c.dropLocked(f)
			c.metrics.dropped("room")
		}
	}
	return true
}

func (c *Cache) insertLocked(f *file, front bool) {
	if front {
		f.place = c.used.PushFront(f)
	} else {
		f.place = c.used.PushBack(f)
	}
	c.files[f.key] = f
	c.bytes += f.size
	c.metrics.bytes.Set(float64(c.bytes))
}

// dropLocked forgets a file and removes it from the disk. Those who read it go
// on: an open file outlives its name.
func (c *Cache) dropLocked(f *file) {
	if f.place == nil {
		return
	}
	c.used.Remove(f.place)
	f.place = nil
	if c.files[f.key] == f {
		delete(c.files, f.key)
	}
	c.bytes -= f.size
	c.metrics.bytes.Set(float64(c.bytes))
	f.remove(c)
	if f.refs > 0 {
		return
	}
	if f.cancel != nil {
		f.cancel() // nobody is to read what is still being made
	}
	f.close()
}

// drop is dropLocked for a file that turned out to be of no use.
func (c *Cache) drop(f *file, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.place != nil {
		c.metrics.dropped(why)
	}
	c.dropLocked(f)
}

// release gives back what acquire returned.
func (c *Cache) release(f *file) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.refs--
	if f.refs > 0 {
		return
	}
	if f.finished() {
		f.close()
		return
	}
	if f.size > orphanBytesMax {
		c.dropLocked(f)
	}
}

// Trim drops what nobody reads until n bytes are given back or nothing is
// left, and returns how many were.
func (c *Cache) Trim(n int64) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.bytes
	for at := c.used.Back(); at != nil && before-c.bytes < n; {
		f, _ := at.Value.(*file)
		at = at.Prev()
		if f.refs == 0 {
			c.dropLocked(f)
			c.metrics.dropped("room")
		}
	}
	return before - c.bytes
}

// Bytes is what the files take.
func (c *Cache) Bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// Close ends all conversions and waits for them. Readers that are still open
// fail. It may be called twice.
func (c *Cache) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.running.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.files {
		if f.refs == 0 {
			f.close()
		}
	}
	c.metrics.unregister()
	return nil
}

// turn waits for a maker's place, and returns how to give it back.
func (c *Cache) turn(ctx context.Context) (func(), error) {
	patience := time.NewTimer(makerWait)
	defer patience.Stop()
	select {
	case c.makers <- struct{}{}:
		return func() { <-c.makers }, nil
	case <-patience.C:
		return nil, ErrBusy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// load takes over the files of former lives, those used last first, and
// removes what was not finished.
func (c *Cache) load() error {
	if err := os.MkdirAll(c.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("directory of forms: %w", err)
	}
	entries, err := os.ReadDir(c.cfg.Dir)
	if err != nil {
		return fmt.Errorf("directory of forms: %w", err)
	}
	found := make([]*file, 0, len(entries))
	for _, e := range entries {
		f, ok := c.found(e)
		if !ok {
			_ = os.Remove(filepath.Join(c.cfg.Dir, e.Name())) // it is ours, and of no use
			continue
		}
		found = append(found, f)
	}
	sortNewest(found)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range found {
		if c.bytes+f.size > c.cfg.BytesMax {
			f.remove(c)
			continue
		}
		c.insertLocked(f, false)
	}
	return nil
}
