package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// dialWait bounds the whole way to a usable connection: TCP, TLS and the
	// reply. A LAN needs a millisecond; a lost SYN is repeated after one second.
	dialWait = 3 * time.Second
	// handshakeWait is how long an accepted connection may take to say who it
	// is.
	handshakeWait = 5 * time.Second
	// handshakesMax bounds connections that have not said who they are, and
	// handshakesPerHostMax those from one address, so that one stranger cannot
	// take all the places.
	handshakesMax        = 128
	handshakesPerHostMax = 64
	// connsMax bounds accepted connections of known nodes: at thirty nodes,
	// sixty-four groups or fetches with each.
	connsMax = 2048
	// complainPause is between two log lines about refused connections: they
	// tell of a wrong secret, and strangers could write any number.
	complainPause = 10 * time.Second
	// acceptPause is the pause after a failed accept (out of descriptors).
	acceptPause = 50 * time.Millisecond
	// handlersMax is the number of kinds.
	handlersMax = 256
)

// Config is what Open needs.
type Config struct {
	NodeID string
	Bind   string // host:port; port 0 picks one
	// TLS is from ClusterTLS or the operator's own; it must verify clients.
	// Nil is plain TCP, on loopback (or a simulated network) only.
	TLS *tls.Config
	// Files are the operator's own certificates, in place of TLS.
	Files   *Files
	Network Network // nil is TCP
	// Version is the newest version of the protocol that this node speaks; 0:
	// ProtocolVersion. Tests of upgrades set it.
	Version byte
	// Resolve says where a node is now. It is asked at each dial.
	Resolve func(nodeID string) (addr string, err error)
	// Lost is told each time a call connection with a node ends that this side
	// did not close. It must not block. Nil tells nobody.
	Lost    func(nodeID string)
	Log     *slog.Logger
	Metrics prometheus.Registerer // nil counts for nobody
}

// Handler answers requests of one kind. The request is valid during the call
// only; the answer, which may be a part of it, belongs to the link and must not
// be changed afterwards. The context ends when the caller gave up or its
// connection broke. Handlers run concurrently, for one caller too.
type Handler func(ctx context.Context, from string, req []byte) ([]byte, error)

// LentHandler is a Handler whose answers are large: it may make one in memory
// that loan gives it, which the link takes back when the answer was written.
type LentHandler func(ctx context.Context, from string, req []byte, loan *Loan) ([]byte, error)

// Loan lends memory for one answer.
type Loan struct {
	bodies *bodies
	body   *[]byte
}

// Bytes returns n bytes, FrameBytesMax at most, with anything in them. It is
// called once for an answer.
func (o *Loan) Bytes(n int) []byte {
	o.body = o.bodies.get(n)
	return *o.body
}

// giveBack is called when nothing uses the answer any more.
func (o *Loan) giveBack() {
	if o.body != nil {
		o.bodies.put(o.body)
	}
}

// Link is the peer port of one node. All methods may be called concurrently.
type Link struct {
	cfg      Config
	log      *slog.Logger
	listener net.Listener
	metrics  *metrics
	bodies   bodies
	pool     callPool
	handlers [handlersMax]atomic.Pointer[LentHandler]
	codes    atomic.Pointer[codebook]

	closing chan struct{}
	wg      sync.WaitGroup

	mu         sync.Mutex // guards what follows
	closed     bool
	open       map[io.Closer]struct{} // closed by Close
	accepted   int                    // connections of known nodes
	handshakes map[string]int         // by host
	shaking    int                    // sum of handshakes
	nodes      map[string]*node
	calls      map[*callConn]struct{} // watched by the keeper
	serves     map[*serveConn]struct{}
	streams    map[string]*streamListener
	complained time.Time // when a refusal was last logged
}

// Open listens on cfg.Bind; [Link.Serve] answers. A kind without a handler is
// answered with ErrNoHandler, a stream without a listener with ErrRefused.
func Open(cfg Config) (*Link, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Network == nil {
		cfg.Network = TCP{}
	}
	if cfg.Version == 0 {
		cfg.Version = ProtocolVersion
	}
	if cfg.Lost == nil {
		cfg.Lost = func(string) {}
	}
	ln, err := cfg.Network.Listen(cfg.Bind)
	if err != nil {
		return nil, fmt.Errorf("listen for peers: %w", err)
	}
	if _, isTCP := cfg.Network.(TCP); isTCP && cfg.TLS == nil && cfg.Files == nil && !loopback(ln.Addr()) {
		return nil, errors.Join(
			fmt.Errorf("plain peer link on %s, not loopback: %w", ln.Addr(), ErrConfig), ln.Close())
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	l := &Link{
		cfg:        cfg,
		log:        cfg.Log.With("component", "peer"),
		listener:   ln,
		metrics:    m,
		closing:    make(chan struct{}),
		open:       make(map[io.Closer]struct{}),
		handshakes: make(map[string]int),
		nodes:      make(map[string]*node),
		calls:      make(map[*callConn]struct{}),
		serves:     make(map[*serveConn]struct{}),
		streams:    make(map[string]*streamListener),
	}
	l.codes.Store(builtin())
	return l, nil
}

// Serve answers from now on. It is called once, before the first call, stream
// or Close, when all that handlers and Config.Resolve need is there.
func (l *Link) Serve() {
	l.wg.Go(l.accept)
	l.wg.Go(l.keep)
}

func (cfg Config) check() error {
	switch {
	case !ValidNodeID(cfg.NodeID):
		return fmt.Errorf("node id %q: %w", cfg.NodeID, ErrConfig)
	case cfg.Resolve == nil || cfg.Log == nil:
		return fmt.Errorf("resolve and log are needed: %w", ErrConfig)
	case cfg.TLS != nil && cfg.TLS.ClientAuth != tls.RequireAndVerifyClientCert:
		return fmt.Errorf("tls does not verify clients: %w", ErrConfig)
	case cfg.TLS != nil && cfg.TLS.InsecureSkipVerify:
		return fmt.Errorf("tls does not verify servers: %w", ErrConfig)
	}
	return nil
}

func loopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// Close closes the port and all connections, streams too, ends the contexts of
// running handlers and waits for them. Calls in flight fail.
func (l *Link) Close() error {
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	open := make([]io.Closer, 0, len(l.open))
	for c := range l.open {
		open = append(open, c)
	}
	listeners := make([]*streamListener, 0, len(l.streams))
	for _, s := range l.streams {
		listeners = append(listeners, s)
	}
	l.mu.Unlock()
	var err error
	if first {
		close(l.closing)
		err = l.listener.Close()
	}
	for _, c := range open {
		_ = c.Close() // it is being torn down: nobody is left to tell
	}
	for _, s := range listeners {
		_ = s.Close()
	}
	l.wg.Wait()
	return err
}

// Addr returns the bound address.
func (l *Link) Addr() string { return l.listener.Addr().String() }

// Handle registers the handler of a kind, before the first request of it.
func (l *Link) Handle(kind byte, h func(ctx context.Context, from string, req []byte) ([]byte, error)) {
	l.HandleLent(kind, func(ctx context.Context, from string, req []byte, _ *Loan) ([]byte, error) {
		return h(ctx, from, req)
	})
}

// HandleLent is Handle for large answers.
func (l *Link) HandleLent(kind byte, h LentHandler) { l.handlers[kind].Store(&h) }

// Errors registers sentinels under codes of 1 to 239, the same on all nodes:
// when a handler returns an error that is one of them, the caller's error is
// it too. If several match, the lowest code wins. Call it before traffic.
func (l *Link) Errors(codes map[byte]error) { l.codes.Store(l.codes.Load().with(codes)) }

// track makes Close close c; it returns false after Close.
func (l *Link) track(c io.Closer) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.open[c] = struct{}{}
	}
	return !l.closed
}

func (l *Link) untrack(c io.Closer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
}

// start runs f in a goroutine that Close waits for, or not at all after Close.
func (l *Link) start(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.wg.Go(f)
	return true
}

func (l *Link) accept() {
	for {
		conn, err := l.listener.Accept()
		if err != nil {
			select {
			case <-l.closing:
				return
			case <-time.After(acceptPause):
			}
			if errors.Is(err, net.ErrClosed) {
				return
			}
			l.log.Warn("accept failed", "error", err)
			continue
		}
		host := hostOf(conn)
		if !l.beginHandshake(host) {
			l.refused(conn, errTooMany)
			_ = conn.Close()
			continue
		}
		if !l.start(func() { l.welcome(conn, host) }) {
			_ = conn.Close()
		}
	}
}

func hostOf(conn net.Conn) string {
	host, _, err := net.SplitHostPort(conn.RemoteAddr().String())
	if err != nil {
		return conn.RemoteAddr().String()
	}
	return host
}

func (l *Link) beginHandshake(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shaking >= handshakesMax || l.handshakes[host] >= handshakesPerHostMax {
		return false
	}
	l.shaking++
	l.handshakes[host]++
	return true
}

func (l *Link) endHandshake(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shaking--
	if l.handshakes[host]--; l.handshakes[host] == 0 {
		delete(l.handshakes, host)
	}
}

// enter takes one of the places for known nodes.
func (l *Link) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.accepted >= connsMax {
		return false
	}
	l.accepted++
	return true
}

func (l *Link) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accepted--
}

// refused counts a refusal and logs it, but not each.
func (l *Link) refused(conn net.Conn, err error) {
	l.metrics.refused.Inc()
	now := time.Now()
	l.mu.Lock()
	quiet := now.Sub(l.complained) < complainPause
	if !quiet {
		l.complained = now
	}
	l.mu.Unlock()
	level := slog.LevelWarn
	if quiet {
		level = slog.LevelDebug
	}
	l.log.Log(context.Background(), level, "connection to the peer port refused",
		"remote_addr", conn.RemoteAddr().String(), "error", err)
}
