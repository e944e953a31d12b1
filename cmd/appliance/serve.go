package main

import (
	"context"
	"errors"
	"log/slog"

	"carillon/cluster"
	"carillon/internal/config"
)

type serveCmd struct {
	configFlags

	DataDir string `help:"Directory of the node's data, over the configuration." type:"path"`
}

// Run runs a node until it is told to stop, or fails.
func (c *serveCmd) Run(ctx context.Context, tty terminal) (err error) {
	if c.DataDir != "" {
		c.Set = append(c.Set, "node.data_dir="+c.DataDir)
	}
	loaded, err := c.load()
	if err != nil {
		return err
	}
	cfg := loaded.Config
	log := newLogger(cfg.Node, tty.err)
	for _, w := range loaded.Warnings {
		log.Warn("configuration", "warning", w)
	}
	log.Info("starting", "version", version, "data_dir", cfg.Node.DataDir)
	for opened := 1; ; opened++ {
		err = serveOnce(ctx, cfg, log)
		if !errors.Is(err, cluster.ErrDamaged) || opened == openingsMax || ctx.Err() != nil {
			return err
		}
		log.Error("opening the node again without what is damaged", "error", err)
	}
}

// openingsMax bounds how often a process opens its node again because of damage:
// once for each database, and once more.
const openingsMax = 3

// serveOnce runs a node until it is told to stop, or fails.
func serveOnce(ctx context.Context, cfg config.Config, log *slog.Logger) (err error) {
	n, err := openNode(ctx, cfg, log)
	if err != nil {
		if ctx.Err() != nil { // told to stop while it waited for the others
			log.Info("stopped while starting")
			return nil
		}
		return err
	}
	defer func() {
		log.Info("stopping", "grace", cfg.Node.StopGrace.String())
		err = errors.Join(err, n.Close())
		log.Info("stopped")
	}()
	return n.wait(ctx)
}
