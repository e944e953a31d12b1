package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"carillon/blobstore"
)

// TestSecretChangesUnderLoad changes the secret in the three rounds that the
// manual describes, one node at a time, while clients write through the others.
// The cluster must stay whole in each step, keep what it acknowledged, and in
// the end refuse who knows the old secret only.
func TestSecretChangesUnderLoad(t *testing.T) {
	t.Parallel()
	before, after := []byte("the secret before the change"), []byte("the secret after the change")
	nodes := startCluster(t, 3, func(c *Config) { c.Secret = before })
	var mu sync.Mutex // guards nodes
	k := &kept{items: map[string][]byte{}}
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	defer writers.Wait()
	defer stop()
	for w := range nodes {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				mu.Lock()
				n := nodes[w]
				mu.Unlock()
				key, body := fmt.Sprintf("w%d-%d", w, i), noise(uint64(i), 1+i*7919%300_000)
				if _, err := upload(ctx, n, key, body); err == nil {
					k.mu.Lock()
					k.items[key] = body
					k.mu.Unlock()
				}
				if !pause(ctx, 50*time.Millisecond) {
					return
				}
			}
		})
	}
	rounds := []struct {
		secret []byte
		accept [][]byte
	}{{before, [][]byte{after}}, {after, [][]byte{before}}, {after, nil}}
	for r, round := range rounds {
		for i := range nodes {
			cfg := nodes[i].cfg
			cfg.Secret, cfg.Accept = round.secret, round.accept
			cfg.Seeds = []string{nodes[(i+1)%3].GossipAddr(), nodes[(i+2)%3].GossipAddr()}
			nodes[i].close(t)
			n := openNode(t, nodes[i].dir, cfg, Deps{})
			t.Cleanup(func() { n.close(t) })
			mu.Lock()
			nodes[i] = n
			mu.Unlock()
			eventually(t, fmt.Sprintf("round %d, node %d sees the others", r, i), func() error {
				for _, m := range n.Members() {
					if !m.Alive {
						return fmt.Errorf("node %s: %w", m.ID, blobstore.ErrUnavailable)
					}
				}
				return nil
			})
			waitReady(t, nodes...)
		}
	}
	stop()
	writers.Wait()
	if len(k.items) == 0 {
		t.Fatal("nothing was acknowledged")
	}
	k.check(t, nodes...)
	sameCatalogs(t, nodes...)

	cfg := nodes[0].cfg
	cfg.Secret, cfg.Seeds, cfg.Expect = before, []string{nodes[0].GossipAddr()}, 2
	late := openNode(t, t.TempDir(), cfg, Deps{})
	t.Cleanup(func() { late.close(t) })
	late.gossip.Members()
	if _, err := late.link.Call(t.Context(), nodes[0].id, kindCharter); err == nil {
		t.Error("the old secret opens the peer port")
	}
	if err := late.Ready(); !errors.Is(err, ErrNotReady) || len(late.Members()) != 1 {
		t.Errorf("the old secret sees %d nodes: %v", len(late.Members()), err)
	}
}
