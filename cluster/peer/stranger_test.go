package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"carillon/internal/simnet"
)

// rawDial connects as somebody who is not a Link.
func rawDial(t *testing.T, addr string, cfg *tls.Config) net.Conn {
	t.Helper()
	raw, err := TCP{}.Dial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
	if cfg == nil {
		return raw
	}
	return tls.Client(raw, cfg)
}

// TestWrongSecret: nodes of another cluster, and nodes without TLS, reach no
// handler in either direction.
func TestWrongSecret(t *testing.T) {
	w, other, plain := newWorld(t, secret()), newWorld(t, []byte("another secret of length")), newWorld(t, nil)
	a := w.open("a")
	var served atomic.Int64
	a.Handle(kindEcho, func(context.Context, string, []byte) ([]byte, error) {
		served.Add(1)
		return nil, nil
	})
	for name, world := range map[string]*world{"other secret": other, "plain": plain} {
		b := world.open("b")
		world.put("a", a.Addr())
		w.put("b", b.Addr())
		_, err := b.Call(t.Context(), "a", kindEcho)
		if !errors.Is(err, ErrUnreachable) || !errors.Is(err, ErrNotSent) {
			t.Errorf("%s in: %v", name, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*dialWait)
		_, err = a.Call(ctx, "b", kindEcho)
		if !errors.Is(err, ErrUnreachable) || !errors.Is(err, ErrNotSent) {
			t.Errorf("%s out: %v", name, err)
		}
		cancel()
	}
	if served.Load() != 0 {
		t.Error("a stranger reached a handler")
	}
}

// TestStrangerGetsNothing: who does not begin like a peer is not answered.
func TestStrangerGetsNothing(t *testing.T) {
	for name, s := range map[string][]byte{"plain": nil, "tls": secret()} {
		w := newWorld(t, s)
		a := w.open("a")
		for _, said := range []string{
			"GET / HTTP/1.1\r\n\r\n", "CARQ\x01\x00\x00", strings.Repeat("x", 4096), "CARP\x01\xff\xff",
		} {
			conn := rawDial(t, a.Addr(), nil)
			if _, err := io.WriteString(conn, said); err != nil {
				continue // closed already
			}
			got, _ := io.ReadAll(conn) // a reset is as good as an end
			if len(got) != 0 {
				t.Errorf("%s: %.20q is answered with %q", name, said, got)
			}
		}
	}
	a := newWorld(t, secret()).open("a")
	conn := rawDial(t, a.Addr(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn}})
	_, _ = conn.Write(preamble{version: ProtocolVersion, kind: kindCalls, from: "b", to: "a"}.encode())
	if got, err := io.ReadAll(conn); len(got) != 0 || err == nil {
		t.Errorf("without a certificate: %q, %v", got, err)
	}
}

// refusal says what a preamble is refused with.
func refusal(t *testing.T, a *Link, cfg *tls.Config, p []byte) error {
	t.Helper()
	if cfg != nil {
		cfg = cfg.Clone()
		cfg.ServerName = "a"
	}
	conn := rawDial(t, a.Addr(), cfg)
	if _, err := conn.Write(p); err != nil {
		t.Fatal(err)
	}
	_, err := readReply(conn, ProtocolVersion)
	return err
}

func TestRefusals(t *testing.T) {
	w := newWorld(t, secret())
	a := w.open("a")
	good := preamble{version: ProtocolVersion, kind: kindCalls, from: "b", to: "a"}
	older := append([]byte(magic), 0, 0, 5, 'w', 'h', 'a', 't', '?')
	falseFrom, falseTo, noStream := good, good, good
	falseFrom.from, falseTo.to = "c", "c"
	noStream.kind, noStream.name = kindStream, "raft/catalog"
	for name, c := range map[string]struct {
		preamble []byte
		text     string
	}{
		"older version":  {older, "versions 1 to 1, not 0"},
		"false identity": {falseFrom.encode(), `not of \"c\"`},
		"wrong node":     {falseTo.encode(), "this is node a, not c"},
		"no stream":      {noStream.encode(), "nobody listens"},
	} {
		err := refusal(t, a, w.tls("b"), c.preamble)
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := refusal(t, a, w.tls("b"), good.encode()); err != nil {
		t.Errorf("a good one: %v", err)
	}
}

// TestAddressOfAnother: the address of b leads to c, as after containers have
// swapped addresses.
func TestAddressOfAnother(t *testing.T) {
	for name, s := range map[string][]byte{"plain": nil, "tls": secret()} {
		w := newWorld(t, s)
		a, c := w.open("a"), w.open("c")
		w.put("b", c.Addr())
		if _, err := a.Call(t.Context(), "b", kindEcho); !errors.Is(err, ErrNotSent) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSilentStrangers: a host that opens connections and says nothing keeps no
// node away, and is gone after handshakeWait.
func TestSilentStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(1)
		a, b := simLink(t, n, "a"), simLink(t, n, "b")
		var open []net.Conn
		for range 3 * handshakesMax {
			c, err := n.Host("stranger").Dial(t.Context(), a.Addr())
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, c)
		}
		begin := time.Now()
		if _, err := b.Call(t.Context(), "a", kindEcho); err != nil {
			t.Errorf("the node is kept away: %v", err)
		}
		for _, c := range open {
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Error("a silent stranger got something")
			}
			_ = c.Close()
		}
		if d := time.Since(begin); d > handshakeWait {
			t.Errorf("they were kept for %v", d)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.shaking != 0 || len(a.handshakes) != 0 || a.accepted != 1 {
			t.Errorf("counts: %d, %v, %d", a.shaking, a.handshakes, a.accepted)
		}
	})
}

// simLink opens a link on the host of its name; the test's end closes it.
func simLink(t *testing.T, n *simnet.Net, id string) *Link {
	t.Helper()
	cfg, err := ClusterTLS(secret(), id)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(Config{
		NodeID: id, Bind: ":7947", TLS: cfg, Network: n.Host(id), Log: slog.New(slog.DiscardHandler),
		Resolve: func(id string) (string, error) { return id + ":7947", nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	l.Serve()
	l.Handle(kindEcho, func(_ context.Context, from string, req []byte) ([]byte, error) {
		return append([]byte(from+":"), req...), nil
	})
	return l
}

func TestClusterTLSAndKeys(t *testing.T) {
	if _, err := ClusterTLS([]byte("short"), "a"); !errors.Is(err, ErrConfig) {
		t.Errorf("short secret: %v", err)
	}
	for _, id := range []string{"", "10.0.0.1", "a b", "a/b", "ä", ".a", "a.", strings.Repeat("a", 64), "::1"} {
		if _, err := ClusterTLS(secret(), id); !errors.Is(err, ErrConfig) {
			t.Errorf("node id %q: %v", id, err)
		}
	}
	for _, id := range []string{"a", "node-1.rack_2", "N", strings.Repeat("a", 63)} {
		if _, err := ClusterTLS(secret(), id); err != nil {
			t.Errorf("node id %q: %v", id, err)
		}
	}
	keys := [][]byte{
		GossipKey(secret()), DeriveKey(secret(), "x"), DeriveKey(secret(), "y"),
		DeriveKey([]byte("another"), "x"), DeriveKey(secret(), purposeCA),
	}
	for i, k := range keys {
		if len(k) != keyBytes {
			t.Errorf("key of %d bytes", len(k))
		}
		for _, other := range keys[:i] {
			if bytes.Equal(k, other) {
				t.Error("two purposes, one key")
			}
		}
	}
	if !bytes.Equal(GossipKey(secret()), keys[0]) {
		t.Error("the key is not the same twice")
	}
}

func TestOpenRefuses(t *testing.T) {
	good := Config{
		NodeID: "a", Bind: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler),
		Resolve: func(string) (string, error) { return "", errTest },
	}
	for name, change := range map[string]func(*Config){
		"plain on all addresses": func(c *Config) { c.Bind = "0.0.0.0:0" },
		"no id":                  func(c *Config) { c.NodeID = "" },
		"no resolve":             func(c *Config) { c.Resolve = nil },
		"tls without clients":    func(c *Config) { c.TLS = &tls.Config{MinVersion: tls.VersionTLS13} },
	} {
		cfg := good
		change(&cfg)
		if l, err := Open(cfg); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
			if err == nil {
				_ = l.Close()
			}
		}
	}
}
