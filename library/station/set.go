package station

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"carillon/internal/ring"
	"carillon/library/fault"
)

const (
	// beginWait bounds how long a station may take to begin: mod_shout cannot be
	// hung up on while it waits.
	beginWait = 5 * time.Second
	// openMax bounds the continuous streams of a node: each costs half a percent of
	// a core and 200 KiB.
	openMax = 256
)

// Config of the stations of a node.
type Config struct {
	// Burst is the sound that a new listener gets at once, and the lead that he
	// then keeps; BehindMax how far he may fall behind.
	Burst, BehindMax time.Duration
	// Idle is how long a station goes on without a listener.
	Idle time.Duration
}

// Form is how a listener wants a stream. Zeros: as the program has it.
type Form struct {
	SampleRate, BitRate int
	// GainDB counts if GainSet.
	GainDB  float64
	GainSet bool
}

// Sounds are what stations play.
type Sounds interface {
	// Program says what {account}/{id} plays, in that form; ErrNotFound if
	// there is nothing.
	Program(ctx context.Context, account, id string, f Form) (Program, error)
	// ProgramNow is Program by what this node knows, without asking others.
	ProgramNow(ctx context.Context, account, id string, f Form) (Program, error)
}

// Meter counts what goes on.
type Meter interface {
	// Playing counts n more stations.
	Playing(n float64)
}

// Deps are the parts that a Set stands on.
type Deps struct {
	Sounds Sounds
	// Jobs takes what is to run in the background for as long as the node does.
	Jobs  chan<- func(context.Context)
	Meter Meter
	Log   *slog.Logger
}

// Tuned is a listener's place in a continuous stream.
type Tuned struct {
	// Ring holds the MP3 of the last seconds, and of the next ones.
	Ring *ring.Ring
	// Offset is where the listener begins; what is in the ring behind it is his
	// burst. ByteRate is bytes a second.
	Offset   int64
	ByteRate int
	// Leave gives the place back. It may be called twice.
	Leave func()
}

// Set are the continuous streams of a node. Its methods may be called
// concurrently.
type Set struct {
	cfg  Config
	deps Deps

	mu   sync.Mutex // guards the map, and listeners and idle of each
	open map[string]*station
}

// New makes a Set in which nothing plays.
func New(cfg Config, deps Deps) *Set {
	return &Set{cfg: cfg, deps: deps, open: make(map[string]*station)}
}

// Tune gives a listener a place in the continuous stream of {account}/{id}, which
// it starts unless it runs. It returns ErrNotFound, ErrBadRequest for rates that
// no MP3 has, and ErrLimit.
func (t *Set) Tune(ctx context.Context, account, id string, f Form) (Tuned, error) {
	s, err := t.tune(ctx, account, id, f)
	if err != nil {
		return Tuned{}, err
	}
	return Tuned{
		Ring: s.ring, Offset: s.offset(time.Now()), ByteRate: s.byteRate,
		Leave: sync.OnceFunc(func() { t.leave(s) }),
	}, nil
}

func (t *Set) tune(ctx context.Context, account, id string, f Form) (*station, error) {
	key := fmt.Sprintf("%s/%s\x00%d %d %.1f %v", account, id, f.SampleRate, f.BitRate, f.GainDB, f.GainSet)
	s, first, err := t.join(key)
	if err != nil {
		return nil, err
	}
	if first {
		s.account, s.id, s.form = account, id, f
		// Others wait for it, too, and may stay longer than the first.
		begin, cancel := context.WithTimeout(context.WithoutCancel(ctx), beginWait)
		s.failed = s.begin(begin)
		cancel()
		if s.failed != nil {
			t.remove(s)
		}
		close(s.ready)
	}
	select {
	case <-s.ready:
	case <-ctx.Done():
		t.leave(s)
		return nil, ctx.Err()
	}
	return s, s.failed
}

// join counts a listener of a key's station. The first begins it, the others
// wait until it is ready.
func (t *Set) join(key string) (s *station, first bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s = t.open[key]; s != nil {
		s.listeners++
		return s, false, nil
	}
	if len(t.open) >= openMax {
		return nil, false, fmt.Errorf("%d continuous streams: %w", openMax, fault.ErrLimit)
	}
	s = &station{set: t, key: key, ready: make(chan struct{}), piece: -1, listeners: 1}
	t.open[key] = s
	return s, true, nil
}

func (t *Set) remove(s *station) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open[s.key] == s {
		delete(t.open, s.key)
	}
}

// deserted says whether nobody has listened for so long, and then ends s.
func (t *Set) deserted(s *station, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.listeners > 0 || now.Sub(s.idle) < t.cfg.Idle {
		return false
	}
	delete(t.open, s.key)
	return true
}

// leave gives back what join returned.
func (t *Set) leave(s *station) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.listeners--
	s.idle = time.Now()
}
