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

const (
	testWait = 10 * time.Second
	// settle is longer than a peer's kernel takes to acknowledge.
	settle = 100 * time.Millisecond
)

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

// Goal: the kernel takes little for who is new, but the first write of a body; more
// when it is widened. Who takes it is said to read fast, and not who leaves it to
// his own kernel.
func TestNarrow(t *testing.T) {
	t.Parallel()
	const firstWrite, packet = 64 << 10, 64 << 10
	client, o := pair(t)
	o.Narrow()
	sound := make([]byte, 16<<20)
	fill := func() (all int) {
		t.Helper()
		for idle := 0; idle < 2; idle++ { // his kernel takes some
			n, err := o.Write(sound)
			if !errors.Is(err, outlet.ErrNoRoom) {
				t.Fatalf("%d bytes, %v", n, err)
			}
			if _, err := o.Await(settle); err != nil {
				t.Fatal(err)
			}
			if all += n; n > 0 {
				idle = 0
			}
		}
		return all
	}
	narrow := fill()
	if queued := o.Queued(); queued < firstWrite || queued > 2*outlet.NarrowBytes+packet || o.Wide() {
		t.Errorf("%d bytes in a narrow buffer", queued)
	}
	if o.Fast(int64(narrow)) {
		t.Errorf("who has taken nothing of %d bytes reads fast", narrow)
	}
	before := o.Queued()
	o.Widen()
	o.Narrow() // has no effect any more
	wide := fill()
	if queued := o.Queued(); queued < 2*before || !o.Wide() {
		t.Errorf("%d bytes in a wide buffer, %d in a narrow one", queued, before)
	}
	if _, err := io.CopyN(io.Discard, client, int64(narrow+wide)); err != nil {
		t.Fatal(err)
	}
	if !o.Fast(int64(narrow + wide)) {
		t.Error("who has taken all does not read fast")
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
