package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"carillon/admin"
	"carillon/blobstore"
	"carillon/cluster"
	"carillon/internal/audience"
	"carillon/internal/config"
	"carillon/internal/outbound"
	"carillon/internal/web"
	"carillon/library"
	"carillon/shoutd"
	"carillon/streamserver"
)

// errStarting and errStopping are why a node is not ready at its two ends.
var (
	errStarting = errors.New("starting")
	errStopping = errors.New("stopping")
)

// node is one running node: all of Carillon but the command line.
type node struct {
	cfg     config.Config
	wiring  wiring
	log     *slog.Logger
	metrics *prometheus.Registry

	front    *front
	web      *web.Server
	blobs    *blobstore.Store
	catalog  *blobstore.CatalogStore
	spool    *blobstore.Spool // nil: switched off
	cluster  *cluster.Node
	library  *library.Library
	shout    *shoutd.Server
	stopping atomic.Bool
	stopped  chan struct{} // closed when stopping
	// joined is set once cluster is, for readers on the HTTP port.
	joined atomic.Pointer[cluster.Node]

	opened    []io.Closer
	closeOnce sync.Once
	closeErr  error
}

// openNode opens the parts of a node, each on those before it, and returns
// when all doors are open. It may be ready only later, when it has found the
// others: wait for ready.
func openNode(ctx context.Context, cfg config.Config, log *slog.Logger) (_ *node, err error) {
	n := &node{cfg: cfg, log: log, metrics: prometheus.NewRegistry(), stopped: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	n.metrics.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	// The directory first: nothing may touch it before it is ours.
	lock, err := lockDir(cfg.Node.DataDir)
	if err != nil {
		return nil, err
	}
	n.closeLater(lock)

	// Then the HTTP port, so that the node can say that it is starting, and
	// because the addresses that it tells the others hold the bound port.
	if err = n.openFront(ctx); err != nil {
		return nil, err
	}
	if err = n.openShelf(); err != nil {
		return nil, err
	}
	if n.cluster, err = cluster.Open(n.wiring.cluster(), cluster.Deps{
		Blobs: n.blobs, Catalog: n.catalog, Spool: n.spool, Log: log, Metrics: n.metrics,
	}); err != nil {
		return nil, fmt.Errorf("open cluster: %w", err)
	}
	n.closeLater(n.cluster)
	n.joined.Store(n.cluster)

	if err = n.openLibrary(ctx); err != nil {
		return nil, err
	}
	// The doors last: who knocks finds everything behind them.
	if err = n.openDoors(); err != nil {
		return nil, err
	}
	log.Info("node is open", "node_id", n.cluster.ID(),
		"http", n.wiring.httpURL(), "shout", n.wiring.shoutHost())
	return n, nil
}

// closeLater adds to what Close closes, in reverse.
func (n *node) closeLater(c io.Closer) { n.opened = append(n.opened, c) }

func (n *node) openFront(ctx context.Context) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", n.cfg.HTTP.Bind.String())
	if err != nil {
		return fmt.Errorf("open http port: %w", err)
	}
	port := n.cfg.HTTP.Bind.Port()
	if tcp, ok := ln.Addr().(*net.TCPAddr); ok {
		port = uint16(tcp.Port)
	}
	n.wiring = wiring{cfg: n.cfg, httpPort: int(port)}
	if err := n.choosePorts(ctx); err != nil {
		return errors.Join(err, ln.Close())
	}
	n.front = newFront(n.ready)
	n.web, err = web.Open(n.wiring.web(), web.Deps{Handler: n.front, Listener: ln, Log: n.log})
	if err != nil {
		return errors.Join(fmt.Errorf("open http port: %w", err), ln.Close())
	}
	n.closeLater(n.web)
	return nil
}

// choosePorts replaces port 0 of the SHOUT port, which others are told before
// the door is opened.
func (n *node) choosePorts(ctx context.Context) error {
	bind := n.cfg.Shout.Bind
	if bind.Port() != 0 {
		return nil
	}
	addr, err := freePort(ctx, bind.Host())
	if err != nil {
		return err
	}
	n.wiring.cfg.Shout.Bind, n.wiring.pickedPorts = addr, true
	return nil
}

func (n *node) openShelf() (err error) {
	if n.blobs, err = n.openBlobs(); err != nil {
		return fmt.Errorf("open shelf: %w", err)
	}
	n.closeLater(n.blobs)
	if n.catalog, err = blobstore.OpenCatalog(n.wiring.catalog(), n.log); err != nil {
		return fmt.Errorf("open catalog: %w", err)
	}
	n.closeLater(n.catalog)
	cfg := n.wiring.spool()
	if cfg.BytesMax == 0 || cfg.ItemsMax == 0 {
		return nil
	}
	if n.spool, err = blobstore.OpenSpool(cfg, n.log); err != nil {
		return fmt.Errorf("open spool: %w", err)
	}
	n.closeLater(n.spool)
	return nil
}

// openBlobs opens the blobs database. One that is damaged is put aside, if this
// is not the only copy, and an empty one is opened, which the cluster fills.
func (n *node) openBlobs() (*blobstore.Store, error) {
	cfg := n.wiring.blobs()
	store, err := blobstore.OpenStore(cfg, n.log)
	if !errors.Is(err, blobstore.ErrCorrupt) {
		return store, err //nolint:wrapcheck // the caller says what it opened
	}
	if merr := cluster.MarkResync(n.cfg.Node.DataDir, err.Error()); merr != nil {
		return nil, merr //nolint:wrapcheck // it holds the other
	}
	aside, aerr := blobstore.SetAside(cfg.Dir, time.Now())
	if aerr != nil {
		return nil, errors.Join(aerr, err)
	}
	n.log.Error("blobs database is damaged: put aside, and everything is fetched anew",
		"error", err, "aside", aside)
	return blobstore.OpenStore(cfg, n.log) //nolint:wrapcheck // as above
}

func (n *node) openLibrary(ctx context.Context) error {
	cfg, err := n.wiring.library()
	if err != nil {
		return err
	}
	sender, err := outbound.Open(n.wiring.outbound())
	if err != nil {
		return fmt.Errorf("open outbound: %w", err)
	}
	n.closeLater(sender)
	n.library, err = library.Open(ctx, cfg, library.Deps{
		NodeID: n.cluster.ID(), Writer: n.cluster.Writer(), Shelf: n.cluster.Shelf(),
		Catalog: n.cluster.Catalog(), Log: n.log, Metrics: n.metrics, Gone: n.cluster.Gone,
		Sender: sender,
		Room:   n.cluster.Room, Spool: n.spool, Led: n.cluster.Led,
	})
	if err != nil {
		return fmt.Errorf("open library: %w", err)
	}
	n.closeLater(n.library)
	return nil
}

func (n *node) openDoors() error {
	tokens, allow := n.wiring.tokens(), n.wiring.allow()
	// Closed after the doors, which may hand listeners over to the end.
	crowd, err := audience.Open(n.wiring.audience(), n.metrics)
	if err != nil {
		return fmt.Errorf("open audience: %w", err)
	}
	n.closeLater(crowd)
	streams, err := streamserver.New(streamserver.Deps{
		Library: n.library, Allow: allow, Tokens: tokens, Log: n.log, Metrics: n.metrics,
		Audience: crowd, Burst: n.cfg.Streams.Burst.Duration, BehindMax: n.cfg.Streams.BehindMax.Duration,
		Stall: n.cfg.HTTP.ListenerStallMax.Duration,
	})
	if err != nil {
		return fmt.Errorf("open playback: %w", err)
	}
	api, err := admin.New(admin.Config{
		UploadBytesMax: n.cfg.HTTP.UploadBytesMax.Int64(),
		HTTPURL:        n.wiring.httpURL(), ShoutHost: n.wiring.shoutHost(), Version: buildVersion(),
	}, admin.Deps{
		Library: n.library, Tokens: tokens, Allow: allow, Ingest: n.wiring.ingest(), Ready: n.ready, Log: n.log,
		Metrics: n.metrics, Gatherer: n.metrics, Stopping: n.stopped,
		Nodes: keeper{n.cluster}, Verify: n.cluster.VerifyBlob,
		Status: func(ctx context.Context) (any, error) { return n.clusterView(ctx) },
	})
	if err != nil {
		return fmt.Errorf("open api: %w", err)
	}
	n.shout, err = shoutd.Open(n.wiring.shout(), shoutd.Deps{
		Library: shoutd.Over(n.library), Audience: crowd, Allow: allow, Log: n.log, Metrics: n.metrics,
	})
	if err != nil {
		return fmt.Errorf("open shout port: %w", err)
	}
	e := web.New(n.log)
	streams.Routes(e)
	api.Routes(e)
	n.front.open(http.Handler(e))
	n.closeLater(doors{n})
	return nil
}

// ready is nil when the node can take any request.
func (n *node) ready() error {
	joined := n.joined.Load()
	switch {
	case n.stopping.Load():
		return errStopping
	case joined == nil:
		return errStarting
	}
	return joined.Ready() //nolint:wrapcheck // it is the reason that clients see
}

// readyPoll is how often waitReady looks; forming takes seconds.
const readyPoll = 20 * time.Millisecond

// waitReady returns when the node is ready, or why it is not when ctx ends.
func (n *node) waitReady(ctx context.Context) error {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		err := n.ready()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w: %w", err, ctx.Err())
		}
	}
}

// wait returns nil when ctx ends, else the failure of a part without which the
// node is of no use.
func (n *node) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-n.cluster.Failed():
		return fmt.Errorf("cluster failed: %w", err)
	case <-n.web.Done():
		return errors.New("http port failed, see the log")
	}
}

// Close closes what was opened, in reverse, and waits for all of it. It may be
// called twice.
func (n *node) Close() error {
	n.closeOnce.Do(func() {
		n.stopping.Store(true)
		close(n.stopped)
		for len(n.opened) > 0 {
			last := len(n.opened) - 1
			n.closeErr = errors.Join(n.closeErr, n.opened[last].Close())
			n.opened = n.opened[:last]
		}
	})
	return n.closeErr
}

// doors closes both doors at the same time: what they finish within the grace
// time needs everything behind them. The HTTP port was opened first, and is
// closed here already; closing it again later does nothing.
type doors struct{ n *node }

// Close drains and closes the doors.
func (d doors) Close() error {
	var webErr, shoutErr error
	var wg sync.WaitGroup
	wg.Go(func() { webErr = d.n.web.Close() })
	wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), d.n.cfg.Node.StopGrace.Duration)
		defer cancel()
		if err := d.n.shout.Drain(ctx); err != nil {
			d.n.log.Warn("sources are cut, the grace time is over", "grace", d.n.cfg.Node.StopGrace.String())
		}
		shoutErr = d.n.shout.Close()
	})
	wg.Wait()
	return errors.Join(webErr, shoutErr)
}

// freePort finds a port that is free now for TCP and UDP. It is used where the
// number must be known before the listener is made, in demos and tests.
func freePort(ctx context.Context, host string) (config.Addr, error) {
	all, err := freePorts(ctx, host, 1)
	if err != nil {
		return config.Addr{}, err
	}
	return all[0], nil
}

// freePorts finds so many different ones: each is held until all are found, since
// the kernel may give a port that was let go to the next who asks.
func freePorts(ctx context.Context, host string, n int) (all []config.Addr, err error) {
	var held []io.Closer
	defer func() {
		for _, c := range held {
			err = errors.Join(err, c.Close())
		}
		if err != nil {
			all, err = nil, fmt.Errorf("find a free port: %w", err)
		}
	}()
	const failuresMax = 20 // a port that is free for TCP is seldom taken for UDP
	var lc net.ListenConfig
	for failures := 0; len(all) < n; {
		tcp, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			return nil, err //nolint:wrapcheck // above
		}
		held = append(held, tcp)
		udp, err := lc.ListenPacket(ctx, "udp", tcp.Addr().String())
		if err != nil {
			if failures++; failures == failuresMax {
				return nil, err //nolint:wrapcheck // above
			}
			continue
		}
		held = append(held, udp)
		addr, err := config.ParseAddr(tcp.Addr().String())
		if err != nil {
			return nil, err //nolint:wrapcheck // above
		}
		all = append(all, addr)
	}
	return all, nil
}
