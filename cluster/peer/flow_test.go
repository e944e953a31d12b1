package peer

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"carillon/internal/simnet"
)

// blocked registers a handler that waits for its context and reports on it.
func blocked(l *Link) (began chan struct{}, ended chan error) {
	began, ended = make(chan struct{}, 2000), make(chan error, 2000)
	l.Handle(kindBlock, func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
		began <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	return began, ended
}

func TestCancel(t *testing.T) {
	w := newWorld(t, secret())
	a, b := w.open("a"), w.open("b")
	began, ended := blocked(b)
	for _, size := range []int{10, 256 << 10} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := a.Call(ctx, "b", kindBlock, make([]byte, size))
			done <- err
		}()
		<-began
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) || !errors.Is(err, ErrMaybeSent) {
			t.Errorf("cancelled call: %v", err)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("its handler: %v", err)
		}
	}
}

// TestDeadlineTravels: the handler's context has the caller's deadline, so it
// ends even when no cancel arrives.
func TestDeadlineTravels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		a, b := simLink(t, n, "a"), simLink(t, n, "b")
		left := make(chan time.Duration, 1)
		b.Handle(kindBlock, func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
			deadline, _ := ctx.Deadline()
			left <- time.Until(deadline)
			<-ctx.Done()
			return nil, ctx.Err()
		})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := a.Call(ctx, "b", kindBlock)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("call: %v", err)
		}
		if d := <-left; d != 3*time.Second {
			t.Errorf("the handler saw %v left", d)
		}
	})
}

// TestCancelledCallsLeakNothing: thousands of calls of all sizes, cancelled at
// all times, while others go on.
func TestCancelledCallsLeakNothing(t *testing.T) {
	w := newWorld(t, secret())
	a, b := w.open("a"), w.open("b")
	_, _ = blocked(b)
	var wg sync.WaitGroup
	for i := range 400 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%20)*time.Millisecond)
			defer cancel()
			_, err := a.Call(ctx, "b", kindBlock, make([]byte, i*997%(300<<10)))
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("cancelled call: %v", err)
			}
		})
		wg.Go(func() {
			body := bytes.Repeat([]byte{byte(i)}, i*331%(100<<10))
			got, err := a.Call(t.Context(), "b", kindEcho, body)
			if err != nil || !bytes.Equal(got[2:], body) {
				t.Errorf("call beside: %d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait()
	a.mu.Lock()
	conns := make([]*callConn, 0, len(a.calls))
	for c := range a.calls {
		conns = append(conns, c)
	}
	a.mu.Unlock()
	if len(conns) == 0 || len(conns) > callConnsMax {
		t.Errorf("%d connections", len(conns))
	}
	for _, c := range conns {
		c.mu.Lock()
		if len(c.calls) != 0 || len(c.slots) != 0 || c.load.Load() != 0 {
			t.Errorf("left: %d calls, %d slots, %d bytes", len(c.calls), len(c.slots), c.load.Load())
		}
		c.mu.Unlock()
	}
}

// TestPartition: calls in flight end when the way is cut, as soon as the pings
// tell; calls during the cut end within the dial's time; after it all is well.
func TestPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		a, b := simLink(t, n, "a"), simLink(t, n, "b")
		began, ended := blocked(b)
		done := make(chan error, 1)
		begin := time.Now()
		go func() {
			_, err := a.Call(t.Context(), "b", kindBlock)
			done <- err
		}()
		<-began
		n.Cut("a", "b")
		err := <-done
		if !errors.Is(err, ErrUnreachable) || !errors.Is(err, ErrMaybeSent) || errors.Is(err, ErrNotSent) {
			t.Errorf("in flight: %v", err)
		}
		if d := time.Since(begin); d > silentMax+2*keepTick {
			t.Errorf("in flight for %v", d)
		}
		begin = time.Now()
		_, err = a.Call(t.Context(), "b", kindEcho)
		if !errors.Is(err, ErrUnreachable) || !errors.Is(err, ErrNotSent) {
			t.Errorf("during the cut: %v", err)
		}
		if d := time.Since(begin); d > dialWait {
			t.Errorf("dialed for %v", d)
		}
		if err = <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the other side's handler: %v", err)
		}
		n.HealAll()
		time.Sleep(redialWait)
		if _, err = a.Call(t.Context(), "b", kindEcho); err != nil {
			t.Errorf("after: %v", err)
		}
	})
}

// TestLongPoll: a long poll is not taken for a dead node.
func TestLongPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		a, b := simLink(t, n, "a"), simLink(t, n, "b")
		b.Handle(kindBlock, func(context.Context, string, []byte) ([]byte, error) {
			time.Sleep(time.Hour)
			return []byte("at last"), nil
		})
		if got, err := a.Call(t.Context(), "b", kindBlock); err != nil || string(got) != "at last" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// TestSlowHandlers: more calls and bytes than a connection takes, and handlers
// slower than the pings: the callers wait, nothing breaks, nobody is lost.
func TestSlowHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		a, b := simLink(t, n, "a"), simLink(t, n, "b")
		b.Handle(kindBlock, func(_ context.Context, _ string, req []byte) ([]byte, error) {
			time.Sleep(3 * silentMax)
			return req[:1], nil
		})
		var wg sync.WaitGroup
		for i := range 2500 {
			size := 10
			if i%50 == 0 {
				size = 1 << 20
			}
			wg.Go(func() {
				if _, err := a.Call(t.Context(), "b", kindBlock, make([]byte, size)); err != nil {
					t.Errorf("call %d: %v", i, err)
				}
			})
		}
		wg.Wait()
	})
}

// TestDeadInTheMiddle: a dialer that vanishes in the middle of a request is
// given up, and so is one that never says another word.
func TestDeadInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		a, b := simLink(t, n, "a"), simLink(t, n, "b")
		if _, err := b.Call(t.Context(), "a", kindEcho); err != nil {
			t.Fatal(err)
		}
		raw, _, err := b.dial(t.Context(), "a", kindCalls, "")
		if err != nil {
			t.Fatal(err)
		}
		frame := make([]byte, headerBytes+10)
		header{kind: frameRequest, code: kindEcho, id: 1, length: 1000, version: ProtocolVersion}.put(frame)
		if _, err = raw.Write(frame); err != nil {
			t.Fatal(err)
		}
		n.Isolate("b")
		n.Host("b").Kill()
		time.Sleep(serveSilentMax + 3*keepTick)
		a.mu.Lock()
		defer a.mu.Unlock()
		if len(a.serves) != 0 || a.accepted != 0 {
			t.Errorf("%d connections are kept", len(a.serves))
		}
		_ = raw.Close()
	})
}

// TestRestart: the peer comes back at another address between two calls.
func TestRestart(t *testing.T) {
	w := newWorld(t, secret())
	a, b := w.open("a"), w.open("b")
	if _, err := a.Call(t.Context(), "b", kindEcho); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	w.open("b")
	for range 10 {
		_, err := a.Call(t.Context(), "b", kindEcho)
		if err == nil {
			return
		}
		// A call may meet the old connection's end, never more.
		if !errors.Is(err, ErrUnreachable) {
			t.Fatal(err)
		}
	}
	t.Error("never reached the new b")
}

// TestCloseEndsCalls: Close of either side ends calls and handlers.
func TestCloseEndsCalls(t *testing.T) {
	for _, closeCaller := range []bool{true, false} {
		w := newWorld(t, secret())
		a, b := w.open("a"), w.open("b")
		began, ended := blocked(b)
		done := make(chan error, 1)
		go func() {
			_, err := a.Call(t.Context(), "b", kindBlock)
			done <- err
		}()
		<-began
		l := b
		if closeCaller {
			l = a
		}
		if err := errors.Join(l.Close(), l.Close()); err != nil {
			t.Error(err)
		}
		if err := <-done; err == nil {
			t.Error("the call succeeded")
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("handler: %v", err)
		}
		if _, err := l.Call(t.Context(), "b", kindEcho); !errors.Is(err, ErrClosed) || !errors.Is(err, ErrNotSent) {
			t.Errorf("call after close: %v", err)
		}
		if _, err := l.Dial(t.Context(), "b", "x"); !errors.Is(err, ErrClosed) {
			t.Errorf("dial after close: %v", err)
		}
		if _, err := l.Listener("x").Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept after close: %v", err)
		}
	}
}

// TestSlowReader: a caller that asks for much and reads nothing gets bounded
// memory and, after a while, a closed connection.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		l, err := Open(Config{
			NodeID: "a", Bind: ":7947", Network: n.Host("a"), Log: slog.New(slog.DiscardHandler),
			Resolve: func(string) (string, error) { return "", errTest },
		})
		if err != nil {
			t.Fatal(err)
		}
		l.Serve()
		defer func() { _ = l.Close() }()
		var running, peak atomic.Int64
		big := make([]byte, 1<<20)
		l.Handle(kindEcho, func(context.Context, string, []byte) ([]byte, error) {
			peak.Store(max(peak.Load(), running.Add(1)))
			defer running.Add(-1)
			return big, nil
		})
		conn, err := n.Host("b").Dial(t.Context(), "a:7947")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		hello := preamble{version: ProtocolVersion, kind: kindCalls, from: "b", to: "a"}
		if _, err = conn.Write(hello.encode()); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		frame := make([]byte, headerBytes+1000)
		sent := 0
		for ; err == nil; sent++ {
			header{
				kind: frameRequest, code: kindEcho, id: uint64(sent), length: 1000, version: ProtocolVersion,
			}.put(frame)
			_, err = conn.Write(frame)
		}
		// Workers, the buffers of the pipe and of the reader: not more.
		if limit := callsPerConnMax + (1<<20)/len(frame); sent > limit {
			t.Errorf("%d requests were taken", sent)
		}
		if d := time.Since(begin); d > writeWait+time.Second {
			t.Errorf("kept for %v", d)
		}
		synctest.Wait()
		if n := runtime.NumGoroutine(); n > 50 {
			t.Errorf("%d goroutines left", n)
		}
	})
}

// TestLargeDoesNotBlockSmall: while more large requests are in flight than
// their connections take, small ones go over one of their own.
func TestLargeDoesNotBlockSmall(t *testing.T) {
	w := newWorld(t, secret())
	a, b := w.open("a"), w.open("b")
	began, _ := blocked(b)
	ctx, cancel := context.WithCancel(t.Context())
	const fill = (callConnsMax - 1) * inflightBytesMax / FrameBytesMax
	var wg sync.WaitGroup
	for range 2 * fill {
		wg.Go(func() {
			_, err := a.Call(ctx, "b", kindBlock, make([]byte, FrameBytesMax))
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	for range fill {
		<-began
	}
	for range 100 {
		if _, err := a.Call(ctx, "b", kindEcho, []byte("small")); err != nil {
			t.Error(err)
		}
	}
	if n := len(began); n != 0 {
		t.Errorf("%d large requests more than there is room for", n)
	}
	cancel()
	wg.Wait()
}

// TestLentAnswers: answers made in lent memory and given back arrive whole, while
// many are on their way, some of which nobody waits for any more.
func TestLentAnswers(t *testing.T) {
	w := newWorld(t, secret())
	a, b := w.open("a"), w.open("b")
	b.HandleLent(kindBlock, func(_ context.Context, _ string, req []byte, loan *Loan) ([]byte, error) {
		p := loan.Bytes((1 + int(req[0])%4) << 18)
		for i := range p {
			p[i] = req[0]
		}
		return p, nil
	})
	var wg sync.WaitGroup
	for n := range 64 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if n%8 == 7 {
				cancel()
			}
			p, err := a.Call(ctx, "b", kindBlock, []byte{byte(n)})
			if err != nil {
				if ctx.Err() == nil {
					t.Errorf("call %d: %v", n, err)
				}
				return
			}
			if want := (1 + n%4) << 18; len(p) != want || bytes.Count(p, []byte{byte(n)}) != want {
				t.Errorf("call %d: %d bytes, %d of them right", n, len(p), bytes.Count(p, []byte{byte(n)}))
			}
			a.Recycle(p)
		})
	}
	wg.Wait()
}
