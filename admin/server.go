package admin

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"carillon/internal/web"
	"carillon/library"
)

// Library is the part of library.Service that the API needs.
type Library interface {
	accountLibrary
	exportLibrary
	nameLibrary
	eventLibrary
	Put(ctx context.Context, account, id string, body io.Reader, opts library.PutOptions) (
		library.Document, bool, error)
	Get(ctx context.Context, account, id string, c library.Consistency) (library.Document, error)
	Delete(ctx context.Context, account, id, ifMatch string) error
	Update(ctx context.Context, account, id string, p library.Patch) (library.Document, error)
	List(ctx context.Context, account string, q library.ListQuery) (library.Page, error)
	CreateRecording(ctx context.Context, r library.RecordingRequest) (library.Recording, error)
	Recording(ctx context.Context, id string) (library.Recording, error)
	ListRecordings(ctx context.Context, account, after string, limit int) ([]library.Recording, string, error)
	StoreRecording(ctx context.Context, recordingID string, r library.StoreRequest) (library.Document, error)
	DiscardRecording(ctx context.Context, recordingID string) error
	RecordURL(r library.Recording) string
}

// Config of the API.
type Config struct {
	// UploadBytesMax is the largest body of a PUT, checked before the body is
	// asked for.
	UploadBytesMax int64
	// HTTPURL and ShoutHost are what clients reach this node under:
	// "http://10.0.0.1:8080", "10.0.0.1:8000".
	HTTPURL, ShoutHost string
	// Version is the answer to /v1/version.
	Version Version
}

// Version names the build that answers.
type Version struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
}

// Deps are the parts a Server stands on.
type Deps struct {
	Library Library
	Tokens  *web.Tokens
	// Allow says which networks may read /metrics without a token
	// (streams.allow).
	Allow func(netip.Addr) bool
	// Status describes the cluster as this node sees it; what it returns is
	// sent as JSON.
	Status func(ctx context.Context) (any, error)
	// Ready returns nil when this node can serve, else why not.
	Ready    func() error
	Log      *slog.Logger
	Metrics  prometheus.Registerer
	Gatherer prometheus.Gatherer
	// Stopping is closed when the node begins to stop: feeds end then. nil:
	// never.
	Stopping <-chan struct{}
}

// Server is the REST API.
type Server struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics *metrics

	followers atomic.Int64 // of the event feed
}

// New makes a Server. It starts nothing, so there is nothing to close.
func New(cfg Config, deps Deps) (*Server, error) {
	s := &Server{cfg: cfg, deps: deps, log: deps.Log.With("component", "admin")}
	var err error
	if s.metrics, err = newMetrics(deps.Metrics, s.followers.Load); err != nil {
		return nil, fmt.Errorf("admin metrics: %w", err)
	}
	return s, nil
}

// Routes puts the API on e.
func (s *Server) Routes(e *echo.Echo) {
	e.PUT("/media/:account/*", s.guarded("put_media", s.putMedia))
	e.DELETE("/media/:account/*", s.guarded("delete_media", s.deleteMedia))

	e.GET("/v1/accounts/:account/media", s.guarded("list_media", s.listMedia))
	e.GET("/v1/accounts/:account/media/*", s.guarded("get_document", s.getDocument))
	e.PATCH("/v1/accounts/:account/media/*", s.guarded("patch_document", s.patchDocument))
	e.DELETE("/v1/accounts/:account/media/*", s.guarded("delete_media", s.deleteMedia))
	s.accountRoutes(e)
	s.exportRoutes(e)
	s.nameRoutes(e)

	e.POST("/v1/recordings", s.guarded("create_recording", s.createRecording))
	e.GET("/v1/recordings", s.guarded("list_recordings", s.listRecordings))
	e.GET("/v1/recordings/:id", s.guarded("get_recording", s.getRecording))
	e.POST("/v1/recordings/:id/store", s.guarded("store_recording", s.storeRecording))
	e.POST("/v1/recordings/:id/discard", s.guarded("discard_recording", s.discardRecording))

	e.GET("/v1/events", s.guarded("events", s.events))
	e.GET("/v1/cluster", s.guarded("cluster", s.cluster))
	e.GET("/v1/version", s.guarded("version", s.version))
	// What is under /v1 is nobody's business without a token, not even that it
	// is not there.
	e.Any("/v1/*", s.guarded("unknown", func(echo.Context) error { return echo.ErrNotFound }))

	for _, method := range []string{http.MethodGet, http.MethodHead} {
		e.Add(method, "/healthz", s.healthz)
		e.Add(method, "/readyz", s.readyz)
	}
	e.GET("/metrics", s.metricsPage(promhttp.HandlerFor(s.deps.Gatherer, promhttp.HandlerOpts{
		MaxRequestsInFlight: scrapesMax,
	})))
}

// scrapesMax: a scrape costs milliseconds of CPU; nobody needs more at once.
const scrapesMax = 4

// guarded checks the token before anything of the request is looked at, and
// measures.
func (s *Server) guarded(name string, next echo.HandlerFunc) echo.HandlerFunc {
	observe := s.metrics.route(name)
	return func(c echo.Context) error {
		start := time.Now()
		web.RequestID(c)
		err := s.guard(c, next)
		status := c.Response().Status
		if err != nil && !c.Response().Committed {
			status = web.FaultOf(err).Status
		}
		observe(status, time.Since(start))
		return err
	}
}

func (s *Server) guard(c echo.Context, next echo.HandlerFunc) error {
	if !s.deps.Tokens.Allow(c.Request()) {
		return web.ErrUnauthorized
	}
	return next(c)
}
