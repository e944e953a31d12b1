package relay

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"carillon/audio/mpeg"
	"carillon/internal/audience"
	"carillon/library"
)

const (
	// leadWait ends the hold of a listener whose source is too slow: mod_shout
	// gives up 20 s after it asked.
	leadWait = 5 * time.Second
	// headerSearchBytes is where a frame must begin, if this is MP3.
	headerSearchBytes = mpeg.FindFrameBytesMin
)

// ErrNotLive is returned when a recording has ended before it could be followed.
var ErrNotLive = errors.New("recording is not live")

// Config of a Relay.
type Config struct {
	// Burst is the lead of a listener; BehindMax is how far he may fall behind
	// before he is dropped.
	Burst, BehindMax time.Duration
	// Stall drops one who takes nothing at all of what he is sent of the past.
	Stall time.Duration
}

// Deps are the parts a Relay stands on.
type Deps struct {
	// Open opens the bytes of a recording from its start, see
	// library.Service.OpenRecording; they are read until ctx ends.
	Open func(ctx context.Context, id string) (audience.Source, library.Recording, error)
	// Recording returns a recording as it is now.
	Recording func(ctx context.Context, id string) (library.Recording, error)
	// Audience takes the listeners over. Relays with the same one share what
	// they read.
	Audience *audience.Audience
	Log      *slog.Logger
}

// Relay brings live recordings to their listeners. It starts nothing by itself:
// what it runs is the Audience's.
type Relay struct {
	cfg   Config
	deps  Deps
	heads sync.Pool // of *[headerSearchBytes]byte
}

// New makes a Relay.
func New(cfg Config, deps Deps) *Relay {
	r := &Relay{cfg: cfg, deps: deps}
	r.heads.New = func() any { return new([headerSearchBytes]byte) }
	return r
}

// Place is where a listener begins. Either Leave or Listen is called, once.
type Place struct {
	relay *Relay
	track *audience.Track
	leave func()
	at    int64
	past  audience.Source // nil if there is none that the others do not hear
	title string
}

// Join finds a listener's place in a recording: its start, or the lead before
// now. If it is MP3 he hears it louder by gainDB. Ctx bounds the wait for it.
// ErrNotLive: it has ended meanwhile.
func (r *Relay) Join(
	ctx context.Context, rec *library.Recording, from library.From, gainDB float64,
) (*Place, error) {
	steps := mpeg.GainSteps(gainDB)
	track, leave, err := r.deps.Audience.Follow(ctx, trackKey(rec.ID, steps),
		func(ctx context.Context) (audience.Feed, error) { return r.feed(ctx, rec.ID, steps) })
	if err != nil {
		return nil, err
	}
	p := &Place{relay: r, track: track, leave: leave, title: Title(rec)}
	first, end, _ := track.Ring.Span()
	if from == library.FromNow {
		p.at = r.edge(track, first, end)
	}
	if p.at < first {
		// It is read for as long as he listens, and not as long as he asks.
		p.past, _, err = r.deps.Open(r.deps.Audience.Context(), rec.ID) //nolint:contextcheck // see above
		if err != nil {
			leave()
			return nil, err
		}
		if steps != 0 {
			p.past = newLouder(p.past, float64(steps)*mpeg.GainStepDB)
		}
	}
	return p, nil
}

// Leave gives the place back; the listener was not let in.
func (p *Place) Leave() {
	if p.past != nil {
		_ = p.past.Close()
	}
	p.leave()
}

// Listener is one connection whose answer's head was sent.
type Listener struct {
	Conn              *net.TCPConn
	Close             func() error // in place of Conn.Close, unless nil
	Metadata, Chunked bool
	// Left is called once, when the connection is closed. It must not wait.
	Left func(bytes int64, why error)
}

// Listen hands the listener over to the audience, also when it fails.
func (p *Place) Listen(l Listener) error {
	cfg := &p.relay.cfg
	left := func(bytes int64, why error) {
		p.leave()
		l.Left(bytes, why)
	}
	seat := audience.Listener{
		Conn: l.Conn, Close: l.Close, Sound: p.track.Ring, Offset: p.at, ByteRate: p.track.ByteRate,
		BehindMax: cfg.BehindMax, Metadata: l.Metadata, Chunked: l.Chunked, Left: left,
	}
	if p.past == nil {
		if p.at == 0 { // a young recording is held until there is a lead to play from
			seat.HoldBytes = int64(float64(p.track.ByteRate) * cfg.Burst.Seconds())
			seat.HoldUntil = time.Now().Add(leadWait)
		}
		return p.relay.deps.Audience.Add(seat)
	}
	return p.relay.deps.Audience.Play(audience.Stored{
		Conn: l.Conn, Close: l.Close, From: p.past, Offset: p.at, Until: p.until, Title: p.title,
		Metadata: l.Metadata, Chunked: l.Chunked, Stall: cfg.Stall, Then: &seat, Left: left,
	})
}

// until is how far the past goes for one who is at an offset: to the end of what
// is there, unless all from there on is shared.
func (p *Place) until(at int64) int64 {
	from, end, _ := p.track.Ring.Span()
	if at >= from {
		return at
	}
	return end
}

// edge is where who listens from now begins: the lead before the end, at the
// begin of a frame, since a decoder that starts within one makes noise first.
func (r *Relay) edge(track *audience.Track, from, to int64) int64 {
	lead := int64(float64(track.ByteRate)*r.cfg.Burst.Seconds()) + mpeg.FrameBytesMax
	if at := to - lead; at > from {
		from = at
	}
	if from == 0 {
		return 0
	}
	near := r.heads.Get().(*[headerSearchBytes]byte) //nolint:forcetypeassert // the pool's only type
	defer r.heads.Put(near)
	if at, ok := mpeg.FindFrame(near[:track.Ring.ReadAt(near[:], from)]); ok {
		from += int64(at)
	}
	return from
}

// Title is what the source of a recording said last, or called it, or its name.
func Title(rec *library.Recording) string {
	if rec.Title != "" {
		return rec.Title
	}
	name := cmp.Or(rec.ICY["ice-name"], rec.ICY["icy-name"])
	if name != "" && name != "no name" { // libshout's default
		return name
	}
	return rec.Name
}
