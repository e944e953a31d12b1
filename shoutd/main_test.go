package shoutd

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"carillon/internal/audience"
	"carillon/library"
)

func TestMain(m *testing.M) {
	if mode, addr, ok := strings.Cut(os.Getenv(loadVariable), " "); ok {
		if err := runLoad(mode, addr); err != nil {
			panic(err)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

const (
	testWait   = 10 * time.Second
	testPeriod = 20 * time.Millisecond // of the audience
	// testMountMax listeners of a mount.
	testMountMax = 1000
)

// syncBuffer is a log that goroutines may write while a test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// door is a server over a fake library.
type door struct {
	*Server
	lib *fakeLibrary
	log *syncBuffer
}

func openDoor(tb testing.TB, cfg Config) *door {
	tb.Helper()
	d := &door{lib: newFakeLibrary(), log: new(syncBuffer)}
	if cfg.Address == "" {
		cfg.Address = "127.0.0.1:0"
	}
	crowd, err := audience.Open(audience.Config{Period: testPeriod, MountListenersMax: testMountMax}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = crowd.Close() })
	s, err := Open(cfg, Deps{
		Library: d.lib, Audience: crowd,
		Allow:   func(a netip.Addr) bool { return a.IsLoopback() },
		Log:     slog.New(slog.NewTextHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		tb.Fatal(err)
	}
	d.Server = s
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return d
}

// client is one raw connection.
type client struct {
	t testing.TB
	*net.TCPConn
	br *bufio.Reader
}

func (d *door) dial(tb testing.TB) *client {
	tb.Helper()
	nc, err := (&net.Dialer{Timeout: testWait}).DialContext(tb.Context(), "tcp", d.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(testWait))
	tcp, _ := nc.(*net.TCPConn)
	return &client{t: tb, TCPConn: tcp, br: bufio.NewReader(tcp)}
}

func (c *client) send(p string) {
	c.t.Helper()
	if _, err := io.WriteString(c, p); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// exactly reads an answer that must be these bytes.
func (c *client) exactly(want string) {
	c.t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c.br, got); err != nil || string(got) != want {
		c.t.Fatalf("answer %q (%v), want %q", got[:n], err, want)
	}
}

// reply is an answer whose body the test closes at its end.
type reply struct{ *http.Response }

// answer reads a head and, when it has a length, its body.
func (c *client) answer(method string) (reply, string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.br, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("answer: %v", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.ContentLength < 0 {
		return reply{resp}, ""
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("body: %v", err)
	}
	return reply{resp}, string(body)
}

// refused wants an error answer without a body, and the end of the connection.
func (c *client) refused(method string, status int) {
	c.t.Helper()
	resp, body := c.answer(method)
	if resp.StatusCode != status || body != "" || !resp.Close {
		c.t.Fatalf("answer %d %q close=%v, want %d without body", resp.StatusCode, body, resp.Close, status)
	}
	c.ended()
}

// ended wants the server to have closed its side, without more bytes.
func (c *client) ended() {
	c.t.Helper()
	if p, err := io.ReadAll(c.br); len(p) > 0 || err != nil && !isReset(err) {
		c.t.Fatalf("after the answer: %q, %v", p, err)
	}
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && !op.Timeout()
}

func file(tb testing.TB, name string) string {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

// split cuts a captured connection into its head and its sound.
func split(tb testing.TB, capture string) (head, sound string) {
	tb.Helper()
	head, sound, ok := strings.Cut(capture, "\r\n\r\n")
	if !ok {
		tb.Fatal("no head in capture")
	}
	return head + "\r\n\r\n", sound
}

// session waits for the next claimed session.
func (d *door) session(tb testing.TB) *fakeSession {
	tb.Helper()
	select {
	case s := <-d.lib.claimed:
		return s
	case <-time.After(testWait):
		tb.Fatalf("no source was claimed; log:\n%s", d.log)
		return nil
	}
}

// endsAs waits for the seal and checks it.
func (s *fakeSession) endsAs(tb testing.TB, how library.Ending, content string) {
	tb.Helper()
	select {
	case <-s.sealed:
	case <-time.After(testWait):
		tb.Fatal("the session was not sealed")
	}
	if s.ending != how {
		tb.Errorf("ending %v, want %v", s.ending, how)
	}
	if got := string(s.content()); got != content {
		tb.Errorf("recorded %d bytes, want %d, or they differ", len(got), len(content))
	}
}

// until polls for a condition.
func until(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(testWait); !ok(); <-tick.C {
		if time.Now().After(end) {
			tb.Fatalf("not in time: %s", what)
		}
	}
}

func statusFor(err error) int { return library.FaultOf(err).Status }
