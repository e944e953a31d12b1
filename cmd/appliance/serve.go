package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"carillon/cluster"
	"carillon/internal/config"
)

type serveCmd struct {
	configFlags

	DataDir string `help:"Directory of the node's data, over the configuration." type:"path"`
}

// Run runs a node until it is told to stop, or fails.
func (c *serveCmd) Run(ctx context.Context, tty terminal) error {
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
	return keepOpen(ctx, log, func() error { return serveOnce(ctx, cfg, log) })
}

const (
	// openingsMax bounds how often a process opens its node again because of damage:
	// once for each database, and once more.
	openingsMax = 3
	// openingsWithin is the time in which that is too often: the disk is failing, and
	// all that it holds would be fetched again and again.
	openingsWithin = time.Hour
)

// keepOpen runs a node, and again without what is damaged as long as that helps.
func keepOpen(ctx context.Context, log *slog.Logger, serve func() error) error {
	for opened := 1; ; opened++ {
		began := time.Now()
		err := serve()
		if time.Since(began) > openingsWithin {
			opened = 1 // whatever was damaged before has been healed
		}
		if !errors.Is(err, cluster.ErrDamaged) || opened == openingsMax || ctx.Err() != nil {
			return err
		}
		log.Error("opening the node again without what is damaged", "error", err)
	}
}

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
