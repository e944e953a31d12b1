package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Defaults of Config and fixed limits of a server.
const (
	// WriteStallDefault: FreeSWITCH's `uuid_fileman pause` stops reading for as
	// long as the caller is on hold (freeswitch-wire.md section 1); a quarter of
	// an hour without a byte is a dead peer.
	WriteStallDefault = 15 * time.Minute
	// ReadStallDefault is how long an upload may send nothing. A client on the
	// same network that is silent for a minute has gone.
	ReadStallDefault = time.Minute
	// GraceDefault is below the ten seconds after which Docker kills.
	GraceDefault = 8 * time.Second
	// ConnsMaxDefault: a connection costs about 20 KiB, so this is 200 MiB at
	// the worst, and ten times what a node is sized for.
	ConnsMaxDefault = 10_000
	// headerWait is generous for one packet and short for a slow loris.
	headerWait = 10 * time.Second
	// idleWait is longer than the 60 s after which common proxies let go, so
	// that they and not we close the idle connection.
	idleWait = 75 * time.Second
	// headerBytesMax: the largest honest request is httapi's PUT of 2 KB, plus
	// metadata headers of at most library.MetadataBytesMax.
	headerBytesMax = 16 << 10
)

// Config of a Server; zero fields take the defaults above.
type Config struct {
	Addr       string        // "host:port", ignored when a listener is given
	WriteStall time.Duration // a response that makes no progress for so long is cut
	ReadStall  time.Duration // a request body that brings no byte for so long is refused
	Grace      time.Duration // how long Close lets requests finish
	ConnsMax   int           // connections at once; more get 503 at once
}

func (c Config) withDefaults() Config {
	if c.WriteStall <= 0 {
		c.WriteStall = WriteStallDefault
	}
	if c.ReadStall <= 0 {
		c.ReadStall = ReadStallDefault
	}
	if c.Grace <= 0 {
		c.Grace = GraceDefault
	}
	if c.ConnsMax <= 0 {
		c.ConnsMax = ConnsMaxDefault
	}
	return c
}

// Deps are the parts a Server stands on.
type Deps struct {
	Handler  http.Handler // usually the echo of [New], with its routes
	Listener net.Listener // nil: bound to Config.Addr
	Log      *slog.Logger
}

// Server serves HTTP on one listener.
type Server struct {
	cfg  Config
	addr net.Addr
	http *http.Server
	// cut cancels the context of every request.
	cut    context.CancelFunc
	served chan struct{} // closed when Serve has returned
	conns  sync.WaitGroup
	close  func() error
}

// Open binds the address unless a listener is given, and serves.
func Open(cfg Config, deps Deps) (*Server, error) {
	cfg = cfg.withDefaults()
	log := deps.Log.With("component", "web")
	ln := deps.Listener
	if ln == nil {
		var lc net.ListenConfig
		var err error
		if ln, err = lc.Listen(context.Background(), "tcp", cfg.Addr); err != nil {
			return nil, fmt.Errorf("listen for http on %s: %w", cfg.Addr, err)
		}
	}
	base, cut := context.WithCancel(context.Background())
	s := &Server{cfg: cfg, addr: ln.Addr(), cut: cut, served: make(chan struct{})}
	s.close = sync.OnceValue(s.shutdown)
	s.http = &http.Server{
		Handler:           withReadStall(deps.Handler, cfg.ReadStall),
		ReadHeaderTimeout: headerWait,
		IdleTimeout:       idleWait,
		MaxHeaderBytes:    headerBytesMax,
		// No WriteTimeout: a player may pause for minutes. The listener's
		// connections watch the progress instead.
		BaseContext: func(net.Listener) context.Context { return base },
		ConnContext: withConn,
		ConnState:   s.track,
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	go func() {
		defer close(s.served)
		err := s.http.Serve(newListener(ln, cfg.WriteStall, cfg.ConnsMax))
		if !errors.Is(err, http.ErrServerClosed) {
			log.Error("http server stopped", "err", err)
		}
	}()
	log.Info("serving http", "addr", s.addr.String())
	return s, nil
}

// Addr is the address the server listens on.
func (s *Server) Addr() net.Addr { return s.addr }

// Done is closed when the server serves no more, whatever the reason.
func (s *Server) Done() <-chan struct{} { return s.served }

// Close refuses new connections, lets running requests finish within the
// grace, cuts the others off, and waits for every goroutine of the server. It
// may be called twice.
func (s *Server) Close() error { return s.close() }

func (s *Server) shutdown() error {
	defer s.cut()
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Grace)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		// Requests that outlive the grace are the normal case for a listener of
		// a live recording, not a fault.
		s.cut()
		err = s.http.Close()
	}
	<-s.served
	s.conns.Wait()
	if err != nil {
		return fmt.Errorf("close http server: %w", err)
	}
	return nil
}

// track counts the connections so that Close can wait for their goroutines.
func (s *Server) track(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.conns.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.conns.Done()
	case http.StateActive, http.StateIdle:
	}
}
