package peer

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// idleWorkersMax bounds the goroutines that wait for the next request of a
	// connection, to spare starting one and growing its stack each time.
	idleWorkersMax = 16
	// errorTextBytesMax bounds the text of an error on the wire.
	errorTextBytesMax = 1 << 10
)

// serveConn is the accepting end of a call connection.
type serveConn struct {
	link  *Link
	from  string
	conn  net.Conn
	out   *outbox
	dead  chan struct{}
	once  sync.Once
	heard atomic.Int64
	// waiting says that the reader waits for a handler to end.
	waiting atomic.Bool

	work  chan *request // unbuffered: taken by an idle worker
	slots chan struct{}
	idle  atomic.Int32
	bytes byteGate
	wg    sync.WaitGroup

	mu      sync.Mutex // guards flights and the requests' cancel and canceled
	flights map[uint64]*request
}

type request struct {
	id     uint64
	kind   byte
	budget uint32
	body   *[]byte
	loan   Loan

	cancel   context.CancelFunc // nil before its worker begins
	canceled bool
}

// serveCalls reads requests until the connection ends, then ends and waits for
// the handlers.
func (l *Link) serveCalls(conn net.Conn, from string, version byte) {
	s := &serveConn{
		link:    l,
		from:    from,
		conn:    conn,
		dead:    make(chan struct{}),
		work:    make(chan *request),
		slots:   make(chan struct{}, callsPerConnMax),
		flights: make(map[uint64]*request),
	}
	s.out = newOutbox(conn, version, s.dead)
	s.heard.Store(time.Now().UnixNano())
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.wg.Go(func() {
		_ = s.out.run() // the reader says why it ended
		s.end()
	})
	l.watch(s, true)
	defer l.watch(s, false)
	err := s.read(ctx)
	s.end()
	cancel()
	s.wg.Wait()
	select {
	case <-l.closing:
	default:
		l.cfg.Lost(from)
	}
	l.log.Debug("call connection ended", "peer", from, "error", err)
}

func (l *Link) watch(s *serveConn, on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if on {
		l.serves[s] = struct{}{}
		return
	}
	delete(l.serves, s)
}

// end ends the connection; the reader notices.
func (s *serveConn) end() {
	s.once.Do(func() {
		close(s.dead)
		_ = s.conn.Close() // it is dead already
	})
}

func (s *serveConn) read(ctx context.Context) error {
	r := bufio.NewReaderSize(ear{s.conn, &s.heard}, readBufferBytes)
	var head [headerBytes]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return fmt.Errorf("read frame: %w", err)
		}
		h, err := parseHeader(head[:], s.out.version)
		if err != nil {
			return err
		}
		switch h.kind {
		case framePing:
			s.out.trySend(header{kind: framePong, id: h.id})
		case frameCancel:
			s.cancel(h.id)
		case frameRequest:
			if err := s.receive(ctx, r, h); err != nil {
				return err
			}
		default:
			return fmt.Errorf("frame type %d from a dialer: %w", h.kind, ErrProtocol)
		}
	}
}

// receive reads one request and gives it to a worker. It waits while too much
// is in flight: that is the back pressure.
func (s *serveConn) receive(ctx context.Context, r *bufio.Reader, h header) error {
	n := int(h.length)
	s.waiting.Store(true)
	room := s.bytes.enter(n, nil, s.dead)
	s.waiting.Store(false)
	if !room {
		return io.ErrClosedPipe
	}
	body := s.link.bodies.get(n)
	if _, err := io.ReadFull(r, *body); err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	req := &request{
		id: h.id, kind: h.code, budget: h.budget, body: body, loan: Loan{bodies: &s.link.bodies},
	}
	s.mu.Lock()
	s.flights[req.id] = req
	s.mu.Unlock()
	select {
	case s.work <- req:
		return nil
	default:
	}
	s.waiting.Store(true)
	defer s.waiting.Store(false)
	select {
	case s.work <- req:
	case s.slots <- struct{}{}:
		s.wg.Go(func() { s.worker(ctx, req) })
	case <-s.dead:
		return io.ErrClosedPipe
	}
	return nil
}

// worker handles a request, and then others for as long as it is needed.
func (s *serveConn) worker(ctx context.Context, req *request) {
	defer func() { <-s.slots }()
	written := make(chan struct{}, 1)
	for {
		s.handle(ctx, req, written)
		if s.idle.Add(1) > idleWorkersMax {
			s.idle.Add(-1)
			return
		}
		select {
		case req = <-s.work:
			s.idle.Add(-1)
		case <-s.dead:
			s.idle.Add(-1)
			return
		}
	}
}

func (s *serveConn) handle(ctx context.Context, req *request, written chan struct{}) {
	// The answer may be a part of the request, so that must last as long.
	defer s.bytes.leave(len(*req.body))
	defer s.link.bodies.put(req.body)
	defer req.loan.giveBack()
	answer, err := s.answer(ctx, req)
	if err == nil && len(answer) > FrameBytesMax {
		err = fmt.Errorf("answer of %d bytes: %w", len(answer), ErrTooLarge)
	}
	h := header{kind: frameAnswer, id: req.id}
	if err != nil {
		text := err.Error()
		answer = []byte(text[:min(len(text), errorTextBytesMax)])
		h.kind, h.code = frameError, s.link.codes.Load().encode(err)
	}
	h.length = uint32(len(answer))
	if len(answer) <= copyBytesMax {
		s.out.send(nil, h, [][]byte{answer}, nil)
		return
	}
	// The worker waits for its write: a caller that does not read its answers
	// is sent no more than it has workers.
	if !s.out.send(nil, h, [][]byte{answer}, written) {
		return
	}
	select {
	case <-written:
	case <-s.dead:
		if !s.out.withdraw(written) {
			<-written
		}
	}
}

func (s *serveConn) answer(ctx context.Context, req *request) ([]byte, error) {
	ctx, cancel := s.depart(ctx, req)
	defer cancel()
	defer s.land(req)
	h := s.link.handlers[req.kind].Load()
	if h == nil {
		return nil, fmt.Errorf("kind %d: %w", req.kind, ErrNoHandler)
	}
	if err := ctx.Err(); err != nil {
		return nil, err // cancelled on the way here
	}
	return (*h)(ctx, s.from, *req.body, &req.loan)
}

// depart makes the context of a request, which a cancel frame may have met
// before its worker did.
func (s *serveConn) depart(ctx context.Context, req *request) (context.Context, context.CancelFunc) {
	var cancel context.CancelFunc
	if req.budget == 0 {
		ctx, cancel = context.WithCancel(ctx)
	} else {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(req.budget)*time.Millisecond)
	}
	s.mu.Lock()
	req.cancel = cancel
	canceled := req.canceled
	s.mu.Unlock()
	if canceled {
		cancel()
	}
	return ctx, cancel
}

func (s *serveConn) land(req *request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flights[req.id] == req {
		delete(s.flights, req.id)
	}
}

func (s *serveConn) cancel(id uint64) {
	s.mu.Lock()
	req := s.flights[id]
	var cancel context.CancelFunc
	if req != nil {
		req.canceled = true
		cancel = req.cancel
	}
	s.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}
