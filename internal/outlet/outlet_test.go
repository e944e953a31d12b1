package outlet_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"carillon/internal/outlet"
	"carillon/internal/tcptest"
)

const testWait = 10 * time.Second

// pair is a connection and the Outlet of its other end.
func pair(t *testing.T) (*net.TCPConn, *outlet.Outlet) {
	t.Helper()
	client, conn := tcptest.Pair(t)
	t.Cleanup(func() { _ = conn.Close() })
	o, err := outlet.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return client, o
}

// Goal: who writes is told at once that there is no room, knows what was taken,
// and may go on when there is room again.
func TestWrite(t *testing.T) {
	t.Parallel()
	client, o := pair(t)
	sound := make([]byte, 16<<20) // more than the kernel takes
	_, _ = rand.NewChaCha8([32]byte{}).Read(sound)
	n, err := o.Write(sound)
	if !errors.Is(err, outlet.ErrNoRoom) || n == 0 || n == len(sound) {
		t.Fatalf("%d of %d bytes, %v", n, len(sound), err)
	}
	if q := o.Queued(); q <= 0 || q > n {
		t.Errorf("%d bytes queued of %d", q, n)
	}
	if ready, err := o.Await(time.Millisecond); ready || err != nil {
		t.Errorf("room, and nobody read: %v, %v", ready, err)
	}
	heard := make(chan []byte, 1)
	go func() {
		got, err := io.ReadAll(io.LimitReader(client, int64(len(sound))))
		if err != nil {
			t.Error(err)
		}
		heard <- got
	}()
	for n < len(sound) {
		if ready, err := o.Await(testWait); !ready || err != nil {
			t.Fatalf("no room, and he reads: %v, %v", ready, err)
		}
		m, err := o.Write(sound[n:])
		if err != nil && !errors.Is(err, outlet.ErrNoRoom) {
			t.Fatal(err)
		}
		n += m
	}
	if got := <-heard; !bytes.Equal(got, sound) {
		t.Error("heard something else")
	}
}

// Goal: what the peer sends, and that he has left, is seen without waiting.
func TestRead(t *testing.T) {
	t.Parallel()
	client, o := pair(t)
	var p [64]byte
	if n, err := o.Read(p[:]); n != 0 || !errors.Is(err, outlet.ErrNothing) {
		t.Errorf("nothing sent: %d, %v", n, err)
	}
	if _, err := io.WriteString(client, "chatter"); err != nil {
		t.Fatal(err)
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for deadline := time.Now().Add(testWait); time.Now().Before(deadline); {
		n, err := o.Read(p[:])
		got = append(got, p[:n]...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, outlet.ErrNothing) {
			t.Fatal(err)
		}
	}
	if string(got) != "chatter" {
		t.Errorf("%q", got)
	}
	if err := client.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	_ = client.Close() // with a reset
	for deadline := time.Now().Add(testWait); ; {
		_, err := o.Write(p[:])
		if err != nil && !errors.Is(err, outlet.ErrNoRoom) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a peer who has left takes all")
		}
	}
}
