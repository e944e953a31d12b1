package shoutd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"carillon/internal/audience"
	"carillon/internal/relay"
	"carillon/library"
)

// Limits of the accept loop.
const (
	// refusalsMax bounds the connections over the limit that wait, beside the
	// counted ones, until their 503 is read.
	refusalsMax = 64
	// acceptRetryWait is the pause after a failed accept: without a free
	// descriptor the next one fails too.
	acceptRetryWait = 50 * time.Millisecond
)

// TCP keep-alive finds peers that vanished: 30 s + 3 × 10 s, well below the
// hour of the system's default. It does not end a peer that only pauses.
const (
	keepAliveIdle     = 30 * time.Second
	keepAliveInterval = 10 * time.Second
	keepAliveCount    = 3
)

// Deps are the parts a Server stands on.
type Deps struct {
	Library Library
	// Allow says whether a listener may play from this address.
	Allow func(netip.Addr) bool
	// Audience takes over the listeners of what goes on.
	Audience *audience.Audience
	Log      *slog.Logger
	Metrics  prometheus.Registerer
}

// Server is the SHOUT port.
type Server struct {
	cfg     Config
	library Library
	allow   func(netip.Addr) bool

	audience *audience.Audience
	relay    *relay.Relay
	log      *slog.Logger
	metrics  *metrics

	listener net.Listener
	icy      net.Listener // nil without a port for SHOUTcast
	cancel   context.CancelFunc
	wg       sync.WaitGroup // accept loop, connections, watchers
	inputs   sync.Pool      // of *[inputBytes]byte
	refusals chan struct{}
	open     atomic.Int64 // connections

	mu       sync.Mutex // guards the fields below
	draining bool
	sources  map[*source]struct{}
	quiet    chan struct{} // closed while draining when the last source ended
}

// Open listens on the configured address and serves until Close.
func Open(cfg Config, deps Deps) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("shoutd config: %w", err)
	}
	m, err := newMetrics(deps.Metrics)
	if err != nil {
		return nil, fmt.Errorf("shoutd metrics: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount,
	}}
	ln, err := lc.Listen(ctx, "tcp", cfg.Address)
	if err != nil {
		cancel()
		m.unregister()
		return nil, fmt.Errorf("shoutd listen: %w", err)
	}
	s := &Server{
		cfg:      cfg.withDefaults(),
		library:  deps.Library,
		allow:    deps.Allow,
		audience: deps.Audience,
		log:      deps.Log.With("component", "shoutd"),
		metrics:  m,
		listener: ln,
		cancel:   cancel,
		refusals: make(chan struct{}, refusalsMax),
		sources:  make(map[*source]struct{}),
		quiet:    make(chan struct{}),
	}
	s.relay = relay.New(relay.Config{
		Burst: s.cfg.Burst, BehindMax: s.cfg.BehindMax, Stall: s.cfg.WriteStall,
	}, relay.Deps{
		Open: func(ctx context.Context, id string) (audience.Source, library.Recording, error) {
			return s.library.OpenRecording(ctx, id, library.FromStart)
		},
		Recording: s.library.Recording, Audience: s.audience, Log: s.log,
	})
	s.inputs.New = func() any { return new([inputBytes]byte) }
	if s.cfg.ICYAddress != "" {
		switch s.icy, err = lc.Listen(ctx, "tcp", s.cfg.ICYAddress); {
		case err == nil:
			s.wg.Go(func() { s.accept(ctx, s.icy, (*conn).serveICY) })
		case s.cfg.ICYOptional:
			s.log.Warn("no port for sources of SHOUTcast", "error", err)
		default:
			return nil, errors.Join(fmt.Errorf("shoutd listen: %w", err), s.Close())
		}
	}
	s.wg.Go(func() { s.accept(ctx, ln, (*conn).serve) })
	return s, nil
}

// Addr is the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// ICYAddr is the address for sources of SHOUTcast, nil if there is none.
func (s *Server) ICYAddr() net.Addr {
	if s.icy == nil {
		return nil
	}
	return s.icy.Addr()
}

// Drain refuses new sources and returns when the live ones have ended by
// themselves, or with ctx.Err(). FreeSWITCH never reconnects a recording, so a
// planned restart drains first. Listeners are served as before.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	if !s.draining {
		s.draining = true
		if len(s.sources) == 0 {
			close(s.quiet)
		}
	}
	s.mu.Unlock()
	select {
	case <-s.quiet:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close stops accepting, ends listeners, cuts live sources and seals what they
// sent, and waits for all of that. It may be called twice.
func (s *Server) Close() error {
	s.cancel()
	err := s.listener.Close()
	if s.icy != nil {
		err = errors.Join(err, s.icy.Close())
	}
	s.wg.Wait()
	s.metrics.unregister()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// accept only accepts: whatever takes time is done by the connection's own
// goroutine, or a thousand calls that start at once would wait in line here.
func (s *Server) accept(ctx context.Context, ln net.Listener, serve func(*conn, context.Context)) {
	for {
		nc, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = nc.Close()
			}
			return
		case err != nil:
			s.log.Warn("accept failed", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(acceptRetryWait):
			}
			continue
		}
		tcp, ok := nc.(*net.TCPConn)
		if !ok {
			_ = nc.Close()
			continue
		}
		c := &conn{server: s, tcp: tcp}
		if s.open.Add(1) > int64(s.cfg.ConnectionsMax) {
			s.open.Add(-1)
			s.refuse(ctx, c)
			continue
		}
		s.wg.Go(func() {
			serve(c, ctx)
			if !c.handed {
				s.open.Add(-1)
			}
		})
	}
}

// begin registers a source before its claim, unless the server drains.
func (s *Server) begin(src *source) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.sources[src] = struct{}{}
	return true
}

// admit marks a source whose credentials the library took.
func (s *Server) admit(src *source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	src.admitted = true
}

func (s *Server) end(src *source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sources, src)
	if s.draining && len(s.sources) == 0 {
		close(s.quiet)
	}
}

// liveSource is the only live source on mount ("": any) that has these
// credentials. Of several, which a switch with one login has, none is meant:
// nil, as if there were none.
func (s *Server) liveSource(mount string, has func(*source) bool) *source {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found *source
	for src := range s.sources {
		if !src.admitted || mount != "" && src.mount != mount || !has(src) {
			continue
		}
		if found != nil {
			return nil
		}
		found = src
	}
	return found
}
