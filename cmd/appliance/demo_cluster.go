package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

	"carillon/internal/config"
)

// demoNodes is the smallest cluster that survives the loss of a node.
const demoNodes = 3

// demoPorts a node listens on: HTTP, SHOUT, gossip, peers.
const demoPorts = 4

// demoCluster is three nodes of this process on loopback, configured as real
// ones are.
type demoCluster struct {
	token string
	log   *slog.Logger
	nodes [demoNodes]demoNode
}

// demoNode is a place for a node, which may be stopped.
type demoNode struct {
	cfg  config.Config
	node *node
}

// openDemo starts the nodes and waits until all are ready. What base does not
// say of ports, secrets and directories is the same on all.
func openDemo(ctx context.Context, base config.Config, dir string, log *slog.Logger, show *screen) (
	_ *demoCluster, err error,
) {
	d := &demoCluster{log: log}
	if err := d.configure(ctx, base, dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	step := show.begin("starting")
	// At the same time: none is ready before it has seen the others.
	errs := make([]error, demoNodes)
	var wg sync.WaitGroup
	for i := range d.nodes {
		wg.Go(func() { errs[i] = d.start(ctx, i) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	step.done("three nodes found one another and elected their leaders")
	return d, nil
}

// configure makes the configuration of each node, with free ports.
func (d *demoCluster) configure(ctx context.Context, base config.Config, dir string) error {
	token, err := keptSecret(filepath.Join(dir, "token"))
	if err != nil {
		return err
	}
	secret, err := keptSecret(filepath.Join(dir, "secret"))
	if err != nil {
		return err
	}
	d.token = token.Reveal()
	ports, err := freePorts(ctx, "127.0.0.1", len(d.nodes)*demoPorts)
	if err != nil {
		return err
	}
	var join []config.Addr
	for i := range d.nodes {
		cfg := base
		cfg.Node.DataDir = filepath.Join(dir, fmt.Sprintf("node%d", i+1))
		cfg.Node.Zone = fmt.Sprintf("zone%d", i+1)
		cfg.API.Tokens = []config.Secret{token}
		cfg.Cluster.Secret = secret
		cfg.Storage.ReserveBytes = config.Bytes(0) // its directory may be on a disk in memory
		cfg.Outbound.Deny = nil                    // the receivers of a demo are on this machine
		own := ports[i*demoPorts:]
		cfg.HTTP.Bind, cfg.Shout.Bind, cfg.Cluster.Bind, cfg.Cluster.PeerBind = own[0], own[1], own[2], own[3]
		join = append(join, cfg.Cluster.Bind)
		d.nodes[i].cfg = cfg
	}
	for i := range d.nodes {
		d.nodes[i].cfg.Cluster.Join = join
		if err := d.nodes[i].cfg.Validate(); err != nil {
			return err
		}
	}
	return nil
}

// start opens node i and waits until it is ready.
func (d *demoCluster) start(ctx context.Context, i int) error {
	ctx, cancel := context.WithTimeout(ctx, demoReadyWait)
	defer cancel()
	n, err := openNode(ctx, d.nodes[i].cfg, d.log.With("demo_node", i+1))
	if err != nil {
		return fmt.Errorf("node %d: %w", i+1, err)
	}
	d.nodes[i].node = n
	if err := n.waitReady(ctx); err != nil {
		return fmt.Errorf("node %d: %w", i+1, err)
	}
	return nil
}

// stop closes node i, as SIGTERM would.
func (d *demoCluster) stop(i int) error {
	n := d.nodes[i].node
	d.nodes[i].node = nil
	if n == nil {
		return nil
	}
	if err := n.Close(); err != nil {
		return fmt.Errorf("stop node %d: %w", i+1, err)
	}
	return nil
}

// Close stops all nodes at the same time. It may be called twice.
func (d *demoCluster) Close() error {
	errs := make([]error, demoNodes)
	var wg sync.WaitGroup
	for i := range d.nodes {
		wg.Go(func() { errs[i] = d.stop(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (d *demoCluster) httpURL(i int) string { return d.nodes[i].node.wiring.httpURL() }
