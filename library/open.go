package library

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"carillon/blobstore"
	"carillon/library/export"
	"carillon/library/feed"
	"carillon/library/forms"
	"carillon/library/naming"
	"carillon/library/playtoken"
	"carillon/library/restore"
	"carillon/library/rows"
	"carillon/library/spool"
	"carillon/library/station"
	"carillon/library/webhook"
)

// Defaults of Config.
const (
	// UploadBytesMaxDefault is an hour of CD sound, and some.
	UploadBytesMaxDefault = 1 << 30
	// RecordingBytesMaxDefault is three days of a call at 16 kbit/s.
	RecordingBytesMaxDefault = 512 << 20
	// TicketTTLDefault is long enough for a caller to be queued first.
	TicketTTLDefault = 10 * time.Minute
	// PlayTTLDefault is how long one lookup's URL stays the same; it is good
	// for that long again.
	PlayTTLDefault = time.Hour
	// DefaultLanguageDefault is Kazoo's.
	DefaultLanguageDefault = "en-us"
	// UndeleteWindowDefault is a week: who misses something misses it at work.
	// It is not a default of Config, where 0 means none.
	UndeleteWindowDefault = 7 * 24 * time.Hour
	// ExpiryIntervalDefault: retention is counted in days, and a look reads all
	// documents of the accounts that have one.
	ExpiryIntervalDefault = time.Hour
	// ShellStreamDefault is where examples/freeswitch puts it.
	ShellStreamDefault = "/usr/local/bin/carillon-stream"
	// SourcesMaxDefault is four times the load that we measure with.
	SourcesMaxDefault = 4096
	// BurstDefault is the sound that a new listener gets at once, and the lead
	// that he then keeps: sources pause for up to 1.23 s (freeswitch-wire.md 2.4),
	// bytes are a second on the way, and an empty decoder costs the caller a
	// second of silence.
	BurstDefault = 3 * time.Second
	// BehindMaxDefault is how far a listener of what goes on may fall behind
	// before he is dropped: longer than any hiccup of a network.
	BehindMaxDefault = 20 * time.Second
	// StationIdleDefault is how long a continuous stream goes on without a
	// listener. Its position is the clock's, so ending it costs the next listener
	// some milliseconds and nothing else.
	StationIdleDefault = time.Minute
)

// closeWait bounds how long Close waits for recordings to be sealed. What is
// not sealed then is sealed when the node starts again.
const closeWait = 10 * time.Second

var _ Service = (*Library)(nil)

// Library knows all media of the cluster as this node sees them. Its methods
// may be called concurrently.
type Library struct {
	cfg      Config
	deps     Deps
	writer   blobstore.Writer
	shelf    blobstore.Shelf
	rows     rows.Store
	feed     *feed.Feed
	tokens   *playtoken.Signer
	log      *slog.Logger
	metrics  *metrics
	cache    *documentCache
	accounts stillCache[string, *AccountSettings]
	names    stillCache[askedName, *Document]
	forms    *forms.Cache
	stations *station.Set
	buffers  *blobstore.Buffers
	webhooks *webhook.Set
	exports  *export.Queue
	spool    *spool.Spool
	restore  restore.Target
	keeps    sync.Mutex    // held over a look at sessions, which locks many of them
	edits    chan struct{} // of editsAtOnce
	searches chan struct{} // of usesAtOnce
	flusher  *blobstore.Flusher
	sources  []sourceHash

	jobs    chan func(context.Context) // to dispatch
	stop    context.CancelFunc         // ends all that runs in the background
	running sync.WaitGroup
	closing sync.Once

	mu       sync.Mutex // guards the two below
	sessions map[string]*Session
	closed   bool
}

// sourceHash is a configured account as it is compared: hashes have one
// length, so that comparing takes one time.
type sourceHash struct {
	user, password [sha256.Size]byte
	account        string
}

// Open makes a Library over the parts in deps. It waits for nothing and needs
// no majority: recordings that a former life of this node left live are sealed
// in the background.
func Open(ctx context.Context, cfg Config, deps Deps) (*Library, error) {
	l := &Library{
		cfg: withDefaults(cfg), deps: deps,
		writer: deps.Writer, shelf: deps.Shelf, rows: rows.Store{Catalog: deps.Catalog},
		log: deps.Log.With("component", "library"),
		feed: feed.New(feed.Config{Kept: cfg.EventsKept, Max: cfg.EventsMax},
			rows.Store{Catalog: deps.Catalog}),
		tokens:   playtoken.New(rows.Store{Catalog: deps.Catalog}, cfg.Key, cfg.AcceptKeys...),
		cache:    newDocumentCache(),
		buffers:  blobstore.NewBuffers(),
		edits:    make(chan struct{}, editsAtOnce),
		searches: make(chan struct{}, usesAtOnce),
		jobs:     make(chan func(context.Context)),
		sessions: make(map[string]*Session),
	}
	for _, s := range cfg.Sources {
		if err := naming.CheckAccount(s.Account); err != nil {
			return nil, fmt.Errorf("source account %s: %w", naming.Shown(s.User), err)
		}
		l.sources = append(l.sources, sourceHash{
			sha256.Sum256([]byte(s.User)), sha256.Sum256([]byte(s.Password)), s.Account,
		})
	}
	var err error
	if l.metrics, err = newMetrics(deps.Metrics); err != nil {
		return nil, err
	}
	l.exports = export.New(export.Deps{
		NodeID: deps.NodeID, Rows: l.rows, Shelf: deps.Shelf, Sender: deps.Sender, Sounds: sounds{l},
		Meter: exportMeter{l.metrics}, Log: l.log,
	})
	l.stations = station.New(
		station.Config{Burst: l.cfg.Burst, BehindMax: l.cfg.BehindMax, Idle: l.cfg.StationIdle},
		station.Deps{Sounds: programs{l}, Jobs: l.jobs, Meter: stationMeter{l.metrics}, Log: l.log})
	l.restore = restore.Target{
		Catalog: l.rows, Shelf: deps.Shelf, Writer: deps.Writer, Buffers: l.buffers, Log: l.log,
		Holdings: []string{mediaPrefix, recordingPrefix, deletedPrefix},
	}
	l.spool = spool.New(cfg.SpoolWait, spool.Deps{
		Items: deps.Spool, Writer: deps.Writer, Shelf: deps.Shelf, Led: deps.Led, Replayer: replayer{l},
		Meter: spoolMeter{l.metrics}, Log: l.log,
	})
	l.webhooks = webhook.New(webhook.Deps{
		NodeID: deps.NodeID, Rows: l.rows, Feed: l.feed, Sender: deps.Sender, Gone: deps.Gone,
		Meter: webhookMeter{l.metrics}, Log: l.log,
	})
	l.forms, err = forms.Open(forms.Config{Dir: cfg.FormsDir, BytesMax: cfg.FormsBytesMax},
		forms.Deps{Log: deps.Log, Metrics: deps.Metrics, Room: deps.Room})
	if err != nil {
		l.metrics.unregister(deps.Metrics)
		return nil, fmt.Errorf("open forms: %w", err)
	}
	l.flusher = blobstore.OpenFlusher(0)
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	l.running.Go(func() { l.dispatch(work) })
	l.running.Go(func() { l.tend(work) })
	if deps.Sender != nil {
		l.running.Go(func() { l.exports.Run(work) })
		l.running.Go(func() { l.webhooks.Run(work) })
	}
	l.running.Go(func() { l.reap(work) })
	if l.spool.On() {
		l.spool.DropUnfinished()
		l.running.Go(func() { l.spool.Run(work) })
		l.running.Go(func() { l.keepSessions(work) })
	}
	return l, nil
}

// dispatch runs jobs with a context that lives as long as the library: a
// recording is sealed also when its source, and the request that it came by,
// are long gone.
func (l *Library) dispatch(ctx context.Context) {
	for {
		select {
		case job := <-l.jobs:
			l.running.Go(func() { job(ctx) })
		case <-ctx.Done():
			return
		}
	}
}

func withDefaults(cfg Config) Config {
	cfg.UploadBytesMax = cmp.Or(cfg.UploadBytesMax, UploadBytesMaxDefault)
	cfg.RecordingBytesMax = cmp.Or(cfg.RecordingBytesMax, RecordingBytesMaxDefault)
	cfg.TicketTTL = cmp.Or(cfg.TicketTTL, TicketTTLDefault)
	cfg.PlayTTL = cmp.Or(cfg.PlayTTL, PlayTTLDefault)
	cfg.DefaultLanguage = strings.ToLower(cmp.Or(cfg.DefaultLanguage, DefaultLanguageDefault))
	cfg.ExpiryInterval = cmp.Or(cfg.ExpiryInterval, ExpiryIntervalDefault)
	cfg.ShellStream = cmp.Or(cfg.ShellStream, ShellStreamDefault)
	cfg.Burst = cmp.Or(cfg.Burst, BurstDefault)
	cfg.BehindMax = cmp.Or(cfg.BehindMax, BehindMaxDefault)
	cfg.StationIdle = cmp.Or(cfg.StationIdle, StationIdleDefault)
	cfg.SourcesMax = cmp.Or(cfg.SourcesMax, SourcesMaxDefault)
	cfg.TakeoverQuiet = cmp.Or(cfg.TakeoverQuiet, TakeoverQuietDefault)
	cfg.HTTPURL = strings.TrimRight(cfg.HTTPURL, "/")
	return cfg
}

// Close ends the sessions that the doors left and waits until all recordings
// are sealed, at most closeWait, and until everything that runs in the
// background has ended.
func (l *Library) Close() error {
	var err error
	l.closing.Do(func() {
		l.mu.Lock()
		l.closed = true
		left := make([]*Session, 0, len(l.sessions))
		for _, s := range l.sessions {
			left = append(left, s)
		}
		l.mu.Unlock()
		for _, s := range left {
			s.end(EndedCut) // all of them at once
		}
		patience := time.NewTimer(closeWait)
		defer patience.Stop()
	wait:
		for _, s := range left {
			select {
			case <-s.settled:
			case <-patience.C:
				l.log.Warn("recordings are left for the next start")
				break wait
			}
		}
		l.stop()
		l.running.Wait()
		err = errors.Join(l.flusher.Close(), l.forms.Close())
		l.metrics.unregister(l.deps.Metrics)
	})
	return err
}
