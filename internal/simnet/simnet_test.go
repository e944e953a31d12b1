package simnet_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/nettest"

	"carillon/cluster/peer"
	"carillon/internal/simnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ peer.Network = (*simnet.Host)(nil)

// connect opens a stream from host a to host b.
func connect(n *simnet.Net) (a, b net.Conn, err error) {
	ln, err := n.Host("b").Listen(":7947")
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = ln.Close() }()
	if a, err = n.Host("a").Dial(context.Background(), "b:7947"); err != nil {
		return nil, nil, err
	}
	b, err = ln.Accept()
	return a, b, err
}

func mustConnect(t *testing.T, n *simnet.Net) (a, b net.Conn) {
	t.Helper()
	a, b, err := connect(n)
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

// TestConn runs the suite that the Go team uses for net.Pipe.
func TestConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		a, b, err := connect(simnet.New(1))
		if err != nil {
			return nil, nil, nil, err
		}
		return a, b, func() { _, _ = a.Close(), b.Close() }, nil
	})
}

func read(t *testing.T, c net.Conn, want string) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

func silent(t *testing.T, c net.Conn, d time.Duration) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(d))
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v; want silence", n, err)
	}
}

func write(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func TestCutAndHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		a, b := mustConnect(t, n)
		defer a.Close()
		defer b.Close()
		write(t, a, "before")
		time.Sleep(time.Millisecond)
		n.CutOneWay("a", "b")
		write(t, a, "during")
		read(t, b, "before") // it had arrived
		silent(t, b, 5*time.Second)
		write(t, b, "back")
		read(t, a, "back") // the other direction works
		n.Heal("a", "b")
		read(t, b, "during")
		write(t, a, "x")
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		read(t, b, "x")
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("after close: %v", err)
		}
	})
}

func TestLongCutResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		a, b := mustConnect(t, n)
		defer a.Close()
		defer b.Close()
		n.Cut("a", "b")
		begin := time.Now()
		_, err := a.Write(make([]byte, 1<<20)) // more than fits
		if took := time.Since(begin); !errors.Is(err, syscall.ETIMEDOUT) || took > time.Minute {
			t.Errorf("write: %v after %v", err, took)
		}
		silent(t, b, time.Minute) // it cannot know yet
		n.Heal("a", "b")
		_ = b.SetDeadline(time.Now().Add(time.Second))
		if _, err = io.Copy(io.Discard, b); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read after heal: %v", err)
		}
		if _, err = b.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("write after heal: %v", err)
		}
	})
}

func TestDialWaitsOrIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		a, b := n.Host("a"), n.Host("b")
		if _, err := a.Dial(t.Context(), b.IP()+":1"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("nobody listens: %v", err)
		}
		ln, err := b.Listen(":1")
		if err != nil {
			t.Fatal(err)
		}
		if _, err = b.Listen(":1"); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("port taken: %v", err)
		}
		n.Cut("a", "b")
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, err = a.Dial(ctx, ln.Addr().String()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("cut: %v", err)
		}
		time.AfterFunc(time.Second, func() { n.Heal("a", "b") })
		c, err := a.Dial(t.Context(), ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		old := ln.Addr().String()
		b.Renumber()
		if _, err = c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("killed: %v", err)
		}
		if _, err = ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept after kill: %v", err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, err = a.Dial(ctx, old); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("old address: %v", err)
		}
	})
}

func TestSwitchedOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		a, b := mustConnect(t, n)
		defer a.Close()
		n.Isolate("b")
		n.Host("b").Kill()
		if _, err := b.Write([]byte("x")); err == nil {
			t.Error("the dead can write")
		}
		silent(t, a, time.Hour)
		_ = a.SetDeadline(time.Time{})
		write(t, a, "hello?")
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("read: %v", err)
		}
	})
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		a, b := mustConnect(t, n)
		defer a.Close()
		defer b.Close()
		n.Delay("a", "b", 50*time.Millisecond, 20*time.Millisecond)
		begin := time.Now()
		want := bytes.Repeat([]byte("0123456789"), 100)
		var wg sync.WaitGroup
		wg.Go(func() {
			for part := range bytes.Lines(bytes.ReplaceAll(want, []byte("9"), []byte("\n"))) {
				if _, err := a.Write(part); err != nil {
					t.Error(err)
				}
			}
			_ = a.Close()
		})
		got, err := io.ReadAll(b)
		wg.Wait()
		if err != nil || !bytes.Equal(bytes.ReplaceAll(got, []byte("\n"), []byte("9")), want) {
			t.Errorf("out of order or lost: %d bytes, %v", len(got), err)
		}
		if d := time.Since(begin); d < 50*time.Millisecond || d > 70*time.Millisecond {
			t.Errorf("took %v", d)
		}
	})
}

func TestPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		a, err := n.Host("a").Gossip(7946)
		if err != nil {
			t.Fatal(err)
		}
		b, err := n.Host("b").Gossip(7946)
		if err != nil {
			t.Fatal(err)
		}
		send := func(count int) int {
			t.Helper()
			for range count {
				if _, err := a.WriteTo([]byte("p"), n.Host("b").IP()+":7946"); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Second)
			got := 0
			for len(b.PacketCh()) > 0 {
				<-b.PacketCh()
				got++
			}
			return got
		}
		n.Delay("a", "b", time.Millisecond, time.Millisecond)
		if got := send(100); got != 100 {
			t.Errorf("%d of 100 arrived", got)
		}
		n.Drop("a", "b", 0.5)
		if got := send(1000); got < 400 || got > 600 {
			t.Errorf("%d of 1,000 arrived with half dropped", got)
		}
		n.Drop("a", "b", 0)
		if got := send(5000); got != 1024 {
			t.Errorf("%d arrived at a reader that does not read", got)
		}
		n.CutOneWay("a", "b")
		if got := send(10); got != 0 {
			t.Errorf("%d arrived over a cut", got)
		}
		if err := errors.Join(a.Shutdown(), b.Shutdown(), b.Shutdown()); err != nil {
			t.Error(err)
		}
	})
}
