package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"carillon/internal/config"
)

func writeFile(path string, content []byte) error { return os.WriteFile(path, content, 0o600) }

// soloConfig is a node that is a cluster by itself.
func soloConfig(t *testing.T) config.Config {
	t.Helper()
	cfg := config.Default()
	cfg.Node.DataDir = t.TempDir()
	cfg.Node.StopGrace = config.Seconds(1)
	cfg.Cluster.Expect, cfg.Cluster.Replicas, cfg.Cluster.Shards = 1, 1, 2
	for _, bind := range []*config.Addr{
		&cfg.HTTP.Bind, &cfg.Shout.Bind, &cfg.Cluster.Bind, &cfg.Cluster.PeerBind,
	} {
		*bind = config.LoopbackAddr(0)
	}
	return cfg
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// Goal: a single node opens, is the only one on its directory, answers, closes
// twice, and opens again over what it left.
func TestNode(t *testing.T) {
	cfg := soloConfig(t)
	log := slog.New(slog.DiscardHandler)
	for range 2 {
		n, err := openNode(t.Context(), cfg, log)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if err := n.waitReady(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		if _, err := openNode(t.Context(), cfg, log); !errors.Is(err, errLocked) {
			t.Errorf("a second node on the directory: %v", err)
		}
		for path, want := range map[string]int{
			"/healthz": 200, "/readyz": 200, "/metrics": 200, "/v1/cluster": 401, "/media/a/b": 404, "/play/x/y": 403,
		} {
			status, body := get(t, n.wiring.httpURL()+path)
			if status != want {
				t.Errorf("%s: status %d, want %d", path, status, want)
			}
			if path == "/metrics" && !strings.Contains(body, "go_goroutines") {
				t.Error("metrics without those of Go")
			}
		}
		if err := errors.Join(n.Close(), n.Close()); err != nil {
			t.Error(err)
		}
	}
}

// Goal: a node that waits for the others says so, and can be stopped.
func TestServeBeforeTheOthers(t *testing.T) {
	port, err := freePort(t.Context(), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("CARILLON_HTTP_BIND", port.String())
	t.Setenv("CARILLON_SHOUT_BIND", "127.0.0.1:0")
	t.Setenv("CARILLON_CLUSTER_BIND", "127.0.0.1:0")
	t.Setenv("CARILLON_CLUSTER_PEER_BIND", "127.0.0.1:0")
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		cmd := serveCmd{DataDir: filepath.Join(t.TempDir(), "new", "dir")}
		served <- cmd.Run(ctx, terminal{err: io.Discard})
	}()
	waitFor(t, func() bool {
		conn, err := net.Dial("tcp", port.String())
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
	base := "http://" + port.String()
	if status, _ := get(t, base+"/healthz"); status != http.StatusOK {
		t.Errorf("healthz: %d", status)
	}
	var ready struct{ Status, Reason string }
	waitFor(t, func() bool { // it says starting before it has opened its shelf
		status, body := get(t, base+"/readyz")
		if status != http.StatusServiceUnavailable {
			t.Fatalf("readyz: %d", status)
		}
		return json.Unmarshal([]byte(body), &ready) == nil &&
			strings.Contains(ready.Reason, "waiting for 3 members")
	})
	if status, body := get(t, base+"/media/a/b"); status != http.StatusServiceUnavailable || body != "" {
		t.Errorf("playback of a starting node: %d %q", status, body)
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// waitFor waits for a condition, at most as long as anything here may take.
func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("condition is not met in time")
		}
	}
}

// Goal: a node whose start fails half way closes what it had opened: the
// directory is free again.
func TestOpenFailsClean(t *testing.T) {
	cfg := soloConfig(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	cfg.Shout.Bind, _ = config.ParseAddr(ln.Addr().String())
	log := slog.New(slog.DiscardHandler)
	if _, err := openNode(t.Context(), cfg, log); err == nil {
		t.Fatal("opened on a port that is taken")
	}
	lock, err := lockDir(cfg.Node.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(lock.Close(), lock.Close()); err != nil {
		t.Error(err)
	}
}

// TestFreePorts: ports that are found together are different ones.
func TestFreePorts(t *testing.T) {
	t.Parallel()
	const n = 200
	all, err := freePorts(t.Context(), "127.0.0.1", n)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[uint16]bool{}
	for _, addr := range all {
		seen[addr.Port()] = true
	}
	if len(seen) != n {
		t.Errorf("%d different ports of %d", len(seen), n)
	}
}
