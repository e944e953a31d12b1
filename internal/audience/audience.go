package audience

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// Period is the time between two writes to one listener. To write is most
	// of what a listener costs, and he has a lead to spend (the burst).
	Period = 750 * time.Millisecond
	// slots of a period: the listeners are spread over them.
	slots = 15
	// turnBytesMax is what one listener is sent in one turn: a burst of 8 s at
	// 64 kbit/s. Who is further behind gets more in the next.
	turnBytesMax = 64 << 10
	// scratchBytes holds a turn with its framing: a metadata block of at most
	// 4,081 bytes for each 16,000, and the heads of chunks.
	scratchBytes = 96 << 10
	// lookEvery turns the listener's own side is looked at, for a hang-up shows
	// only there while nothing is written to him: six seconds.
	lookEvery = 8
	// chatterBytesMax is what a listener may send while he listens.
	chatterBytesMax = 64 << 10
	// lingerWait and lingerBytesMax bound how long a listener whose sound has
	// ended may take to hang up. Closing with unread bytes would be a reset, and
	// that may overtake the tail.
	lingerWait     = 2 * time.Second
	lingerBytesMax = 64 << 10
)

// Why a listener was ended, when not by the end of the sound.
var (
	// ErrBehind is returned for a listener who took too little for too long.
	ErrBehind = errors.New("listener is too far behind")
	// ErrLeft is returned for a listener who hung up.
	ErrLeft = errors.New("listener left")
	// ErrClosed is returned when the audience is closed.
	ErrClosed = errors.New("audience is closed")
	// ErrFull is returned when there are as many listeners as there may be.
	ErrFull = errors.New("too many listeners")
)

// Sound is what goes on: bytes at offsets, of which the last ones can be read.
// ring.Ring is one.
type Sound interface {
	// Span is what can be read, and whether nothing more will come.
	Span() (from, to int64, ended bool)
	// ReadAt copies what is there and never waits.
	ReadAt(p []byte, off int64) int
	// Title is what is heard at the end.
	Title() string
}

// Listener is one connection that hears a Sound. Its answer's head was sent.
type Listener struct {
	Conn  *net.TCPConn
	Close func() error // in place of Conn.Close, unless nil
	Sound Sound
	// Offset is where it begins; ByteRate is bytes a second of the sound.
	Offset   int64
	ByteRate int
	// BehindMax is how far it may fall behind the sound's end.
	BehindMax time.Duration
	// HoldBytes of sound must be there before the first is sent, until
	// HoldUntil.
	HoldBytes int64
	HoldUntil time.Time
	// MetaLeft is how much sound is due before the first block; 0: ICYInterval.
	MetaLeft int
	// Metadata: a block after each ICYInterval bytes. Chunked: in chunks of
	// HTTP/1.1.
	Metadata, Chunked bool
	// Left is called once, when the connection is closed. It must not wait.
	Left func(bytes int64, why error)

	sent int64 // before this
}

func (l *Listener) close() {
	if l.Close != nil {
		_ = l.Close()
		return
	}
	_ = l.Conn.Close()
}

// Config of an Audience. Zero limits: none.
type Config struct {
	ListenersMax      int // of the node
	MountListenersMax int // of one mount
	// Period is how often a listener is written to; 0: the constant.
	Period time.Duration
}

// Audience writes to listeners until they leave, their sound ends, or it is
// closed. Its methods may be called concurrently.
type Audience struct {
	cfg     Config
	metrics *metrics
	loops   []*loop
	next    atomic.Uint32
	scratch sync.Pool
	running sync.WaitGroup
	stop    context.CancelFunc
	stopped context.Context //nolint:containedctx // ended by Close; says so to Add

	mu     sync.Mutex // guards the fields below
	closed bool
	all    int
	mounts map[string]int
	tracks map[string]*Track
}

// Open starts an Audience.
func Open(cfg Config, metrics prometheus.Registerer) (*Audience, error) {
	if cfg.Period == 0 {
		cfg.Period = Period
	}
	m, err := newMetrics(metrics)
	if err != nil {
		return nil, err
	}
	a := &Audience{cfg: cfg, metrics: m, mounts: make(map[string]int), tracks: make(map[string]*Track)}
	a.scratch.New = func() any { return newScratch() }
	a.stopped, a.stop = context.WithCancel(context.Background())
	for range runtime.GOMAXPROCS(0) {
		l := &loop{audience: a}
		a.loops = append(a.loops, l)
		a.running.Go(func() { l.run(a.stopped) })
	}
	return a, nil
}

// Admit takes a place for a listener of a mount, and returns how to give it
// back, or ErrFull.
func (a *Audience) Admit(mount string) (func(), error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cfg.ListenersMax > 0 && a.all >= a.cfg.ListenersMax ||
		a.cfg.MountListenersMax > 0 && a.mounts[mount] >= a.cfg.MountListenersMax {
		a.metrics.refused.Inc()
		return nil, ErrFull
	}
	a.all++
	a.mounts[mount]++
	return sync.OnceFunc(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.all--
		if a.mounts[mount]--; a.mounts[mount] == 0 {
			delete(a.mounts, mount)
		}
	}), nil
}

// Add takes over a listener: his first bytes are written before it returns.
// From then on the connection is the Audience's, also when Add fails.
func (a *Audience) Add(l Listener) error {
	s, err := newSeat(l, a.cfg.Period)
	if err != nil {
		a.metrics.ended(err)
		if l.Left != nil {
			l.Left(0, err)
		}
		return err
	}
	a.metrics.listeners.Inc()
	scratch, _ := a.scratch.Get().(*scratch)
	err = s.turn(scratch)
	a.scratch.Put(scratch)
	if err == nil {
		if a.loop().add(s) {
			return nil
		}
		err = ErrClosed
	}
	a.finish(s, err)
	return nil
}

// loop is the one whose turn it is to get another listener.
func (a *Audience) loop() *loop { return a.loops[int(a.next.Add(1))%len(a.loops)] }

// Context ends when the Audience is closed: it is for what listeners read from.
func (a *Audience) Context() context.Context { return a.stopped }

// start runs f in a goroutine that Close waits for, unless it was called.
func (a *Audience) start(f func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.running.Go(f)
	return true
}

// finish closes a listener's connection; errEnd lets it read the tail first.
func (a *Audience) finish(s *seat, why error) {
	// Close waits for those that linger, so they are bounded by lingerWait.
	if errors.Is(why, errEnd) && a.start(func() {
		linger(s.Conn)
		a.leave(s, nil)
	}) {
		return
	}
	a.leave(s, why)
}

func (a *Audience) leave(s *seat, why error) {
	s.close()
	a.metrics.listeners.Dec()
	a.metrics.bytes.Add(float64(s.written))
	a.metrics.ended(why)
	if s.Left != nil {
		s.Left(s.written, why)
	}
}

// linger ends the write side and waits, within bounds, for the other end.
func linger(conn *net.TCPConn) {
	if conn.CloseWrite() != nil || conn.SetReadDeadline(time.Now().Add(lingerWait)) != nil {
		return
	}
	var scratch [256]byte
	for taken := 0; taken < lingerBytesMax; {
		n, err := conn.Read(scratch[:])
		if err != nil {
			return
		}
		taken += n
	}
}

// Close ends all listeners and waits for it. It may be called twice.
func (a *Audience) Close() error {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.stop()
	a.running.Wait()
	a.metrics.unregister()
	return nil
}
