package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"carillon/internal/config"
)

const (
	// demoReadyWait bounds how long three nodes may take to form a cluster; it
	// takes two seconds, and a busy test machine gets some patience.
	demoReadyWait = 60 * time.Second
	// demoTourWait bounds the tour: it records in real time for some seconds.
	demoTourWait = 3 * time.Minute
)

type demoCmd struct {
	Dir     string `help:"Keep the data here; default: a temporary directory, removed at exit." type:"path"`
	Exit    bool   `help:"Exit after the tour, with status 0 if all went well."`
	Info    string `help:"Write addresses and token as JSON to this file once the cluster is ready." type:"path"`
	NoTour  bool   `help:"Only start the nodes."`
	Verbose bool   `short:"v" help:"Log to the terminal instead of DIR/demo.log."`
}

// Run starts three nodes, shows what they do, and keeps them running until it
// is told to stop.
func (c *demoCmd) Run(ctx context.Context, tty terminal) (err error) {
	dir, removeDir, err := c.dataDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeDir()) }()
	log, closeLog, err := c.logger(dir, tty)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLog()) }()

	show := newScreen(tty)
	show.title("Carillon: three nodes in one process")
	show.note("data in %s", dir)
	demo, err := openDemo(ctx, c.config(), dir, log, show)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, demo.Close()) }()
	if c.Info != "" {
		if err := demo.writeInfo(c.Info); err != nil {
			return err
		}
	}
	if !c.NoTour {
		if err := c.tour(ctx, demo, show); err != nil {
			if ctx.Err() != nil {
				return nil // Ctrl-C in the middle is no failure
			}
			return fmt.Errorf("tour: %w (the log is %s)", err, filepath.Join(dir, logName))
		}
	}
	if c.Exit {
		return nil
	}
	item := demoWelcome
	if c.NoTour {
		item = demoSong
	}
	show.addresses(demo, item)
	<-ctx.Done()
	show.title("Stopping")
	return nil
}

// config is what the nodes have in common.
func (c *demoCmd) config() config.Config {
	cfg := config.Default()
	cfg.Node.StopGrace = config.Seconds(2) // whoever tries a demo does not want to wait
	return cfg
}

func (c *demoCmd) tour(ctx context.Context, demo *demoCluster, show *screen) error {
	ctx, cancel := context.WithTimeout(ctx, demoTourWait)
	defer cancel()
	t := tour{demo: demo, show: show}
	defer t.close()
	return t.run(ctx)
}

func (c *demoCmd) dataDir() (dir string, remove func() error, err error) {
	if c.Dir != "" {
		if err := os.MkdirAll(c.Dir, 0o700); err != nil {
			return "", nil, fmt.Errorf("data directory: %w", err)
		}
		return c.Dir, func() error { return nil }, nil
	}
	if dir, err = os.MkdirTemp("", "carillon-demo-"); err != nil {
		return "", nil, fmt.Errorf("data directory: %w", err)
	}
	return dir, func() error {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove data directory: %w", err)
		}
		return nil
	}, nil
}

// logName is the log of all three nodes, beside their data.
const logName = "demo.log"

func (c *demoCmd) logger(dir string, tty terminal) (*slog.Logger, func() error, error) {
	cfg := config.Default().Node
	if c.Verbose {
		return newLogger(cfg, tty.err), func() error { return nil }, nil
	}
	path := filepath.Join(dir, logName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600) //nolint:gosec // the user names it
	if err != nil {
		return nil, nil, fmt.Errorf("log: %w", err)
	}
	return newLogger(cfg, f), func() error { return closeFile(f) }, nil
}

// demoInfo is what --info writes: a stable format for scripts.
type demoInfo struct {
	Token string         `json:"token"`
	Nodes []demoNodeInfo `json:"nodes"`
}

type demoNodeInfo struct {
	ID     string `json:"id"`
	HTTP   string `json:"http"`
	Shout  string `json:"shout"`
	Peer   string `json:"peer"`
	Gossip string `json:"gossip"`
	Dir    string `json:"dir"`
}

// writeInfo makes the file appear whole, because scripts wait for it.
func (d *demoCluster) writeInfo(path string) error {
	info := demoInfo{Token: d.token}
	for i := range d.nodes {
		n := &d.nodes[i]
		info.Nodes = append(info.Nodes, demoNodeInfo{
			ID: n.node.cluster.ID(), HTTP: n.node.wiring.httpURL(), Shout: n.node.wiring.shoutHost(),
			Peer: n.cfg.Cluster.PeerBind.String(), Gossip: n.cfg.Cluster.Bind.String(), Dir: n.cfg.Node.DataDir,
		})
	}
	text, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return fmt.Errorf("info: %w", err)
	}
	part := path + ".part"
	if err := os.WriteFile(part, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("info: %w", err)
	}
	if err := os.Rename(part, path); err != nil {
		return fmt.Errorf("info: %w", err)
	}
	return nil
}

// keptSecret reads a secret that an earlier run left in the file, or makes one,
// so that a demo with --dir can be restarted under the same token.
func keptSecret(path string) (config.Secret, error) {
	text, err := os.ReadFile(path) //nolint:gosec // below our own data directory
	if err == nil {
		return config.NewSecret(strings.TrimSpace(string(text))), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return config.Secret{}, fmt.Errorf("secret: %w", err)
	}
	value := strings.ToLower(rand.Text())
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // as above
	if err != nil {
		return config.Secret{}, fmt.Errorf("secret: %w", err)
	}
	_, err = f.WriteString(value + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return config.Secret{}, fmt.Errorf("secret: %w", err)
	}
	return config.NewSecret(value), nil
}
