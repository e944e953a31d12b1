package systemtest

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// shoutLoad says how many sources and listeners there are, and for how long.
type shoutLoad struct {
	sources, listeners int
	// arrival is the time in which all sources, and later all listeners, come.
	arrival time.Duration
	// alone is how long the sources are measured by themselves, together how
	// long with the listeners.
	alone, together time.Duration
	// leave: of the live listeners only every stayEvery-th hears the end. The
	// sources are then measured by themselves once more: what they cost grows
	// with what is stored, and must not be taken for the listeners'.
	leave bool
}

const (
	// sourceEvery is how often a source sends; FreeSWITCH and the peers'
	// measurements do it ten times a second.
	sourceEvery = 100 * time.Millisecond
	// sourceSlots spread the sources over that time.
	sourceSlots = 10
	// loopFrames is the length of the common stream; more than sources, so that
	// each has a start of its own.
	loopFrames = 2048
	// joinSettle lets what is special about the arrival pass before measuring:
	// seals of tickets, the burst that a listener gets first.
	joinSettle = 2 * time.Second
	// leadFirst: a listener of a younger recording is held until it has a lead,
	// as designed; first bytes are measured after that.
	leadFirst = 4 * time.Second
	// stayEvery: see shoutLoad.leave.
	stayEvery = 20
	// endWait bounds the end of everything.
	endWait = time.Minute
	// listenerBufferBytes is what a listener reads at a time.
	listenerBufferBytes = 2 << 10
	// paceEvery is how often a real-time reader of a stored item reads.
	paceEvery = 500 * time.Millisecond
	// receiveBufferBytes of such a reader, so that the server paces with it and
	// not the kernel.
	receiveBufferBytes = 16 << 10
)

// shoutTarget is the server under load.
type shoutTarget struct {
	// source says where and as whom source i sends.
	source func(i int) (addr, user, password, mount string)
	// live says where listener i of that source listens; now says that it does
	// not begin at the start.
	live func(i, source int) (addr, path string, now bool)
	// stored says where listener i plays a stored item, and which stream it
	// holds. Nil: all listeners are live.
	stored func(i int) (addr, path string, want loop, size int64)
	usage  func() usage
	// tailLost: the server is known to cut the end of its streams, which is
	// then not checked.
	tailLost bool
}

// shoutResult is what came of it.
type shoutResult struct {
	accept, first             timings
	refused, dropped          []error
	sourceCPU, listenerCPU    time.Duration // per source-second and listener-second
	underruns                 int
	sent                      []int64
	atEnd                     usage
	duration                  time.Duration
	liveListeners, storedOnes int
}

// shouter is a running load.
type shouter struct {
	load    shoutLoad
	target  shoutTarget
	base    []byte
	sources []*loadSource

	mu     sync.Mutex // guards result, while listeners run
	result shoutResult
	wg     sync.WaitGroup
}

type loadSource struct {
	loop
	conn  net.Conn
	sent  atomic.Int64
	began time.Time
	err   error
}

// runShout drives the load from beginning to end. The caller verifies what was
// stored against the loop of each source and the number of bytes it sent.
func runShout(ctx context.Context, load shoutLoad, target shoutTarget) (*shouter, error) {
	s := &shouter{load: load, target: target, base: phone().frames(loopFrames, 1)}
	s.arrive(ctx)
	defer s.hangUp()
	if err := errors.Join(s.result.refused...); err != nil {
		return s, fmt.Errorf("%d of %d sources refused: %w", len(s.result.refused), load.sources,
			s.result.refused[0])
	}
	sendCtx, stop := context.WithCancel(ctx)
	defer stop()
	var sender sync.WaitGroup
	sender.Go(func() { s.send(sendCtx) })

	pause(ctx, leadFirst)
	alone := s.window(ctx, load.alone)
	var listening float64
	if load.listeners > 0 {
		s.listen(ctx)
		listening = s.window(ctx, load.together)
	}
	s.result.atEnd = target.usage()
	before, listeners := alone, float64(load.listeners)
	if load.leave {
		pause(ctx, load.arrival+joinSettle) // until all have gone who go
		alone = (alone + s.window(ctx, load.alone)) / 2
		listeners -= listeners / (2 * 2 * stayEvery) // half of them are live, in one of two stretches
	}
	stop()
	sender.Wait()
	s.hangUp()
	if err := s.waitListeners(); err != nil {
		return s, err
	}
	for _, src := range s.sources {
		s.result.sent = append(s.result.sent, src.sent.Load())
		if src.err != nil {
			s.result.dropped = append(s.result.dropped, src.err)
		}
	}
	s.result.sourceCPU = time.Duration(before / float64(load.sources) * float64(time.Second))
	if load.listeners > 0 {
		s.result.listenerCPU = time.Duration((listening - alone) / listeners * float64(time.Second))
	}
	return s, nil
}

// window returns how many CPU seconds a second the server takes.
func (s *shouter) window(ctx context.Context, d time.Duration) float64 {
	before, began := s.target.usage(), time.Now()
	pause(ctx, d)
	return s.target.usage().minus(before).cpu.Seconds() / time.Since(began).Seconds()
}

// arrive connects all sources within the arrival time, each on its own as the
// switches do.
func (s *shouter) arrive(ctx context.Context) {
	var wg sync.WaitGroup
	accepted := make([]time.Duration, s.load.sources)
	s.sources = make([]*loadSource, s.load.sources)
	began := time.Now()
	for i := range s.sources {
		pause(ctx, time.Until(began.Add(s.load.arrival*time.Duration(i)/time.Duration(s.load.sources))))
		src := &loadSource{loop: loop{s.base, i * phone().frameBytes % len(s.base)}}
		s.sources[i] = src
		wg.Go(func() {
			start := time.Now()
			src.err = src.connect(ctx, s.target, i)
			accepted[i] = time.Since(start)
			src.began = time.Now()
		})
	}
	wg.Wait()
	for i, src := range s.sources {
		if src.err != nil {
			s.result.refused = append(s.result.refused, fmt.Errorf("source %d: %w", i, src.err))
		} else {
			s.result.accept = append(s.result.accept, accepted[i])
		}
	}
	s.result.duration = 2*s.load.alone + s.load.together + 2*leadFirst
}

// connect sends the head that libshout sends last, and waits for the answer.
func (s *loadSource) connect(ctx context.Context, target shoutTarget, i int) error {
	addr, user, password, mount := target.source(i)
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	s.conn = conn
	if err := conn.SetDeadline(time.Now().Add(rawWait)); err != nil {
		return err
	}
	login := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	_, err = fmt.Fprintf(conn, "SOURCE %s HTTP/1.0\r\nAuthorization: Basic %s\r\nHost: %s\r\n"+
		"User-Agent: libshout/2.4.6\r\nContent-Type: audio/mpeg\r\nice-public: 0\r\nice-name: no name\r\n"+
		"ice-audio-info: bitrate=24000\r\nPrefer: return=minimal\r\n\r\n", mount, login, addr)
	if err != nil {
		return err
	}
	head, err := readHead(conn)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.0 200")) && !bytes.HasPrefix(head, []byte("HTTP/1.1 200")) {
		return fmt.Errorf("%w: %.60q", errRawStatus, head)
	}
	return conn.SetDeadline(time.Time{})
}

// readHead reads to the blank line and no further, byte by byte: it is short,
// and what follows belongs to somebody else.
func readHead(r io.Reader) ([]byte, error) {
	var head []byte
	var one [1]byte
	for len(head) < rawHeadBytesMax {
		if _, err := io.ReadFull(r, one[:]); err != nil {
			return head, err
		}
		if head = append(head, one[0]); bytes.HasSuffix(head, []byte("\r\n\r\n")) {
			return head, nil
		}
	}
	return head, errRawHead
}

// send lets all sources send in real time from one goroutine: a thousand
// timers would cost more than what they time.
func (s *shouter) send(ctx context.Context) {
	tick := time.NewTicker(sourceEvery / sourceSlots)
	defer tick.Stop()
	for slot := 0; ; slot = (slot + 1) % sourceSlots {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for i := slot; i < len(s.sources); i += sourceSlots {
			if src := s.sources[i]; src.err == nil {
				src.err = src.sendDue(time.Now())
			}
		}
	}
}

// sendDue sends what should have been sent by now.
func (s *loadSource) sendDue(now time.Time) error {
	due := int64(now.Sub(s.began).Seconds() * float64(phone().bytesPerSecond()))
	for sent := s.sent.Load(); sent < due; sent = s.sent.Load() {
		n, err := s.conn.Write(s.at(sent, int(due-sent)))
		s.sent.Add(int64(n))
		if err != nil {
			return err
		}
	}
	return nil
}

// hangUp ends all sources with a FIN, as libshout does. A second call does
// nothing.
func (s *shouter) hangUp() {
	for _, src := range s.sources {
		if src.conn != nil {
			_ = src.conn.Close()
			src.conn = nil
		}
	}
}

// listen lets all listeners come within the arrival time.
func (s *shouter) listen(ctx context.Context) {
	began := time.Now()
	for i := range s.load.listeners {
		pause(ctx, time.Until(began.Add(s.load.arrival*time.Duration(i)/time.Duration(s.load.listeners))))
		s.wg.Go(func() {
			var err error
			if s.target.stored != nil && i%2 == 1 {
				err = s.play(ctx, i)
			} else {
				err = s.follow(ctx, i)
			}
			if err != nil {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.result.dropped = append(s.result.dropped, fmt.Errorf("listener %d: %w", i, err))
			}
		})
	}
	pause(ctx, joinSettle)
}

// stays is how long a listener who does not hear the end is there: until the last
// who came has been measured.
func (s *shouter) stays() time.Duration { return s.load.arrival + joinSettle + s.load.together }

func (s *shouter) waitListeners() error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.wg.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-time.After(endWait):
		return fmt.Errorf("%w: listeners go on %v after their sources ended", errRawBody, endWait)
	}
}

// dialListener connects a listener, with a small receive buffer if he paces
// himself. It is set before he connects: a window that was announced and then
// taken back makes the kernel drop what the server sends into it, and wait.
func dialListener(ctx context.Context, addr string, small bool) (net.Conn, error) {
	var d net.Dialer
	if small {
		d.Control = func(_, _ string, c syscall.RawConn) error {
			var failed error
			err := c.Control(func(fd uintptr) {
				failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, receiveBufferBytes)
			})
			return errors.Join(err, failed)
		}
	}
	return d.DialContext(ctx, "tcp", addr)
}

// open sends a listener's request and reads the answer's head. The first byte
// of sound is measured by the caller, from the returned time.
func (s *shouter) open(ctx context.Context, addr, path string, small bool) (net.Conn, time.Time, error) {
	start := time.Now()
	conn, err := dialListener(ctx, addr, small)
	if err != nil {
		return nil, start, err
	}
	err = conn.SetDeadline(time.Now().Add(s.result.duration + endWait))
	if err == nil {
		_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: FreeSWITCH(mod_shout)/1.0\r\n"+
			"Accept: */*\r\n\r\n", path, addr)
	}
	if err != nil {
		_ = conn.Close()
		return nil, start, err
	}
	head, err := readHead(conn)
	if err == nil && !bytes.Contains(head[:min(len(head), 13)], []byte(" 200")) {
		err = fmt.Errorf("%w: %.60q", errRawStatus, head)
	}
	if err != nil {
		_ = conn.Close()
		return nil, start, err
	}
	return conn, start, nil
}

// follow listens to a recording in progress to its end and compares every
// byte. A player that began to play with the first byte must never run dry.
func (s *shouter) follow(ctx context.Context, i int) error {
	src := s.sources[i%len(s.sources)]
	addr, path, now := s.target.live(i, i%len(s.sources))
	conn, start, err := s.open(ctx, addr, path, false)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	var (
		first     time.Time
		pos, got  int64
		dry       bool
		buf       = make([]byte, listenerBufferBytes)
		positions = !now
	)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			at := time.Now()
			if first.IsZero() {
				first = at
				if !positions {
					pos = src.find(buf[:n])
				}
			}
			dry = dry || float64(got) < at.Sub(first).Seconds()*float64(phone().bytesPerSecond())
			if err := src.verify(pos, buf[:n]); err != nil {
				return err
			}
			pos, got = pos+int64(n), got+int64(n)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("after %d bytes: %w", got, err)
		}
		if s.load.leave && i/2%stayEvery > 0 && time.Since(first) > s.stays() {
			s.heard(first.Sub(start), dry, true)
			return nil
		}
	}
	s.heard(first.Sub(start), dry, true)
	// The sender ended before the source's connection did.
	want := src.sent.Load()
	if s.target.tailLost || now && got < want && (want-pos)%int64(len(src.base)) == 0 || got == want {
		return nil
	}
	return fmt.Errorf("%w: ended at %d after %d bytes, the source sent %d", errRawBody, pos, got, want)
}

// play reads a stored item in real time and compares every byte.
func (s *shouter) play(ctx context.Context, i int) error {
	addr, path, want, size := s.target.stored(i)
	conn, start, err := s.open(ctx, addr, path, true)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	buf := make([]byte, listenerBufferBytes)
	n, err := conn.Read(buf)
	if err != nil {
		return err
	}
	first, got := time.Now(), int64(0)
	for {
		if err := want.verify(got, buf[:n]); err != nil {
			return err
		}
		if got += int64(n); got == size || time.Since(first) > s.stays() {
			break
		}
		due := first.Add(time.Duration(float64(got) / float64(music().bytesPerSecond()) * float64(time.Second)))
		if ahead := time.Until(due); ahead > paceEvery {
			pause(ctx, paceEvery)
		}
		if n, err = conn.Read(buf); err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", got, size, err)
		}
	}
	// Behind by more than a read means that the server did not keep up.
	behind := time.Since(first).Seconds()*float64(music().bytesPerSecond()) - float64(got)
	s.heard(first.Sub(start), behind > 2*float64(music().bytesPerSecond()), false)
	return nil
}

func (s *shouter) heard(first time.Duration, dry, live bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result.first = append(s.result.first, first)
	if dry {
		s.result.underruns++
	}
	if live {
		s.result.liveListeners++
	} else {
		s.result.storedOnes++
	}
}

// verifyStored reads what was recorded of every source and compares it.
func (s *shouter) verifyStored(where func(i int) (addr, path string)) error {
	buf := make([]byte, 0)
	clients := map[string]*rawClient{}
	defer func() {
		for _, c := range clients {
			_ = c.Close()
		}
	}()
	for i, src := range s.sources {
		addr, path := where(i)
		c := clients[addr]
		if c == nil {
			var err error
			if c, err = dialRaw(addr); err != nil {
				return err
			}
			clients[addr] = c
		}
		a, err := c.send([]byte("GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"), nil)
		if err == nil {
			err = a.want(http.StatusOK)
		}
		if err == nil && int64(a.length) != src.sent.Load() {
			err = fmt.Errorf("%w: %d bytes of %d", errRawBody, a.length, src.sent.Load())
		}
		if err == nil {
			if cap(buf) < a.length {
				buf = make([]byte, a.length)
			}
			err = c.body(buf[:a.length])
		}
		if err == nil {
			err = src.verify(0, buf[:a.length])
		}
		if err != nil {
			return fmt.Errorf("recording of source %d: %w", i, err)
		}
	}
	return nil
}
