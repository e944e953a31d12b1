package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"
)

const (
	kindEcho  = 1
	kindFail  = 2
	kindBlock = 3
)

var errTest = errors.New("sentinel of the test")

// world is some links that find each other.
type world struct {
	tb     testing.TB
	secret []byte // nil: plain

	mu    sync.Mutex
	addrs map[string]string
}

func newWorld(tb testing.TB, secret []byte) *world {
	tb.Helper()
	return &world{tb: tb, secret: secret, addrs: make(map[string]string)}
}

func (w *world) resolve(id string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a, ok := w.addrs[id]; ok {
		return a, nil
	}
	return "", fmt.Errorf("node %s: %w", id, errTest)
}

func (w *world) put(id, addr string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.addrs[id] = addr
}

func (w *world) tls(id string) *tls.Config {
	w.tb.Helper()
	if w.secret == nil {
		return nil
	}
	cfg, err := ClusterTLS(w.secret, id)
	if err != nil {
		w.tb.Fatal(err)
	}
	return cfg
}

func (w *world) open(id string) *Link {
	w.tb.Helper()
	return w.openVersion(id, 0)
}

func (w *world) openVersion(id string, version byte) *Link {
	w.tb.Helper()
	l, err := Open(Config{
		NodeID: id, Bind: "127.0.0.1:0", TLS: w.tls(id), Resolve: w.resolve,
		Log: slog.New(slog.DiscardHandler), Version: version,
	})
	if err != nil {
		w.tb.Fatal(err)
	}
	w.tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			w.tb.Error(err)
		}
	})
	l.Serve()
	w.put(id, l.Addr())
	l.Errors(map[byte]error{7: errTest})
	l.Handle(kindEcho, func(_ context.Context, from string, req []byte) ([]byte, error) {
		return append([]byte(from+":"), req...), nil
	})
	l.Handle(kindFail, func(_ context.Context, _ string, req []byte) ([]byte, error) {
		return nil, fmt.Errorf("handle %q: %w", req, errTest)
	})
	return l
}

func secret() []byte { return []byte("a secret of some length") }

func TestCall(t *testing.T) {
	for name, s := range map[string][]byte{"plain": nil, "tls": secret()} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, s)
			a := w.open("a")
			w.open("b")
			for _, n := range []int{0, 1, copyBytesMax, copyBytesMax + 1, 64 << 10, 1 << 20, FrameBytesMax - 2} {
				body := bytes.Repeat([]byte{byte(n), 7}, n/2+1)[:n]
				got, err := a.Call(t.Context(), "b", kindEcho, body[:n/3], nil, body[n/3:])
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, append([]byte("a:"), body...)) {
					t.Errorf("echo of %d bytes differs: %d bytes", n, len(got))
				}
			}
		})
	}
}

func TestCallErrors(t *testing.T) {
	w := newWorld(t, secret())
	a := w.open("a")
	w.open("b")
	ctx := t.Context()
	_, err := a.Call(ctx, "b", kindFail, []byte("x"))
	var remote *RemoteError
	if !errors.Is(err, errTest) || !errors.As(err, &remote) || remote.Code != 7 {
		t.Errorf("handler error: %v", err)
	}
	if _, err = a.Call(ctx, "b", 99); !errors.Is(err, ErrNoHandler) {
		t.Errorf("no handler: %v", err)
	}
	if _, err = a.Call(ctx, "b", kindEcho, make([]byte, FrameBytesMax+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if _, err = a.Call(ctx, "b", kindEcho, make([]byte, FrameBytesMax)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("answer too large: %v", err)
	}
	_, err = a.Call(ctx, "nobody", kindEcho)
	if !errors.Is(err, ErrUnreachable) || !errors.Is(err, ErrNotSent) || !errors.Is(err, errTest) {
		t.Errorf("unknown node: %v", err)
	}
}

func TestThousandCalls(t *testing.T) {
	w := newWorld(t, secret())
	a := w.open("a")
	w.open("b")
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() {
			body := bytes.Repeat([]byte{byte(i)}, 10+i*37%20000)
			got, err := a.Call(t.Context(), "b", kindEcho, body)
			if err != nil {
				t.Error(err)
				return
			}
			if !bytes.Equal(got, append([]byte("a:"), body...)) {
				t.Errorf("call %d: wrong answer", i)
			}
		})
	}
	wg.Wait()
}

func TestStream(t *testing.T) {
	w := newWorld(t, secret())
	a, b := w.open("a"), w.open("b")
	ln := b.Listener("fetch")
	conn, err := a.Dial(t.Context(), "b", "fetch")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	other, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if s, ok := other.(*Stream); !ok || s.Node() != "a" {
		t.Errorf("accepted %T, want a *Stream from a", other)
	}
	if _, err = conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err = conn.(*Stream).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(other)
	if err != nil || string(got) != "hello" {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err = other.Write([]byte("world")); err != nil {
		t.Fatal(err)
	}
	if err = other.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err = io.ReadAll(conn); err != nil || string(got) != "world" {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err = a.Dial(t.Context(), "b", "other"); !errors.Is(err, ErrRefused) || !errors.Is(err, ErrNotSent) {
		t.Errorf("no listener: %v", err)
	}
	if err = ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err = ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
}

func TestDeadPeer(t *testing.T) {
	w := newWorld(t, secret())
	a := w.open("a")
	b := w.open("b")
	if _, err := a.Call(t.Context(), "b", kindEcho); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	_, err := a.Call(t.Context(), "b", kindEcho)
	if !errors.Is(err, ErrUnreachable) {
		t.Errorf("call to the dead: %v", err)
	}
	if d := time.Since(begin); d > dialWait {
		t.Errorf("took %v", d)
	}
}
