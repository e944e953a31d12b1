package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

func config(id string, key []byte, seeds ...string) Config {
	return Config{
		NodeID: id, Bind: "127.0.0.1:0", Key: key, Seeds: seeds, Profile: ProfileLocal,
		Self: Member{Peer: id + ":7947", HTTP: "http://" + id, Shout: id + ":8000", Zone: "z", Version: "v1"},
		Log:  slog.New(slog.DiscardHandler),
	}
}

func open(t *testing.T, cfg Config) *Gossip {
	t.Helper()
	g, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// until waits for changes until the condition holds.
func until(t *testing.T, g *Gossip, what string, cond func() bool) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for !cond() {
		select {
		case <-g.Changes():
		case <-timer.C:
			t.Fatalf("not in time: %s; %s sees %v", what, g.id, g.Members())
		}
	}
}

func alive(g *Gossip) string {
	var ids []string
	for _, m := range g.Members() {
		if m.Alive {
			ids = append(ids, m.ID)
		}
	}
	return strings.Join(ids, " ")
}

func key(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func TestFiveNodes(t *testing.T) {
	for name, k := range map[string][]byte{"plain": nil, "key": key(1)} {
		t.Run(name, func(t *testing.T) {
			first := open(t, config("n0", k))
			nodes := []*Gossip{first}
			for i := 1; i < 5; i++ {
				nodes = append(nodes, open(t, config(fmt.Sprintf("n%d", i), k, first.Addr())))
			}
			for _, g := range nodes {
				until(t, g, "all five", func() bool { return alive(g) == "n0 n1 n2 n3 n4" })
				m, ok := g.Member("n3")
				want := Member{
					ID: "n3", Addr: nodes[3].Addr(), Peer: "n3:7947", HTTP: "http://n3", Shout: "n3:8000",
					Zone: "z", Version: "v1", Alive: true,
				}
				if !ok || m != want {
					t.Errorf("%s sees n3 as %+v, want %+v", g.id, m, want)
				}
			}
			err := nodes[2].Update(func(m *Member) { m.Cluster, m.ID, m.Alive = "c1", "other", false })
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range nodes {
				until(t, g, "update", func() bool {
					m, _ := g.Member("n2")
					return m.Cluster == "c1" && m.Alive
				})
			}
			if err := nodes[4].Close(); err != nil {
				t.Fatal(err)
			}
			for _, g := range nodes[:4] {
				until(t, g, "n4 left", func() bool { return alive(g) == "n0 n1 n2 n3" })
			}
		})
	}
}

// kill stops a node without a goodbye.
func kill(t *testing.T, g *Gossip) {
	t.Helper()
	g.update.Lock()
	defer g.update.Unlock()
	g.closed = true
	close(g.closing)
	g.transport.stopStreams()
	g.wg.Wait()
	if err := g.list.Shutdown(); err != nil {
		t.Error(err)
	}
}

func TestKillAndComeBackElsewhere(t *testing.T) {
	a := open(t, config("a", key(1)))
	b := open(t, config("b", key(1), a.Addr()))
	c := open(t, config("c", key(1), a.Addr()))
	until(t, a, "three", func() bool { return alive(a) == "a b c" })
	until(t, b, "three", func() bool { return alive(b) == "a b c" })
	old := c.Addr()
	kill(t, c)
	// At once, so that a and b still hold the old c for alive.
	c = open(t, config("c", key(1), a.Addr()))
	if c.Addr() == old {
		t.Fatalf("same address %s again", old)
	}
	for _, g := range []*Gossip{a, b} {
		until(t, g, "c at its new address", func() bool {
			m, _ := g.Member("c")
			return m.Alive && m.Addr == c.Addr()
		})
	}
	kill(t, c)
	for _, g := range []*Gossip{a, b} {
		until(t, g, "c is dead", func() bool {
			m, ok := g.Member("c")
			return ok && !m.Alive && m.Addr == c.Addr()
		})
	}
}

func TestWrongKeyStaysOut(t *testing.T) {
	a := open(t, config("a", key(1)))
	wrong := open(t, config("w", key(2), a.Addr()))
	plain := open(t, config("p", nil, a.Addr()))
	right := open(t, config("b", key(1), a.Addr()))
	until(t, right, "joined", func() bool { return alive(right) == "a b" })
	// Each has had a first round by now or gets it here.
	wrong.round()
	plain.round()
	until(t, a, "joined", func() bool { return alive(a) == "a b" })
	if got := alive(wrong) + "," + alive(plain); got != "w,p" {
		t.Errorf("strangers see %s", got)
	}
}

func TestRefusedConfigs(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"plain on all":   func(c *Config) { c.Bind = "0.0.0.0:0" },
		"no id":          func(c *Config) { c.NodeID = "" },
		"profile":        func(c *Config) { c.Profile = "wan" },
		"bind":           func(c *Config) { c.Bind = "127.0.0.1" },
		"advertise port": func(c *Config) { c.Advertise = "127.0.0.1:http" },
	} {
		cfg := config("a", nil)
		change(&cfg)
		if g, err := Open(cfg); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
			if err == nil {
				_ = g.Close()
			}
		}
	}
	cfg := config("a", nil)
	cfg.Self.HTTP = strings.Repeat("x", 600)
	if _, err := Open(cfg); !errors.Is(err, ErrMetadata) {
		t.Errorf("long metadata: %v", err)
	}
	a := open(t, config("a", nil))
	if err := a.Update(func(m *Member) { m.Zone = strings.Repeat("x", 256) }); !errors.Is(err, ErrMetadata) {
		t.Errorf("long update: %v", err)
	}
	if m, _ := a.Member("a"); m.Zone != "z" {
		t.Errorf("a refused update changed the zone to %q", m.Zone)
	}
}

// TestStrangerGetsNothing talks to an encrypted gossip port without the key:
// nothing comes back that says anything.
func TestStrangerGetsNothing(t *testing.T) {
	g := open(t, config("a", key(1)))
	labeled := append([]byte{244, byte(len(label))}, label...) // memberlist's label header
	for name, hello := range map[string][]byte{
		"http":     []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"ping":     {0, 0x82, 0xa5, 'S', 'e', 'q', 'N', 'o', 1, 0xa4, 'N', 'o', 'd', 'e', 0xa1, 'a'},
		"labeled":  append(bytes.Clone(labeled), 6, 0x81),
		"nonsense": bytes.Repeat([]byte{0xff}, 300),
	} {
		conn, err := net.DialTimeout("tcp", g.Addr(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		_, _ = conn.Write(hello)
		answer, _ := io.ReadAll(io.LimitReader(conn, 4096)) // it may be reset, or stay silent
		_ = conn.Close()
		if name != "labeled" && len(answer) > 0 || bytes.Contains(answer, []byte("rror")) {
			t.Errorf("%s over tcp was answered %q", name, answer)
		}
		packets, err := net.Dial("udp", g.Addr())
		if err != nil {
			t.Fatal(err)
		}
		_ = packets.SetDeadline(time.Now().Add(200 * time.Millisecond))
		_, _ = packets.Write(hello)
		p := make([]byte, 2048)
		if n, err := packets.Read(p); err == nil {
			t.Errorf("%s over udp was answered %q", name, p[:n])
		}
		_ = packets.Close()
	}
}
