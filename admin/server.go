package admin

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"carillon/blobstore"
	"carillon/internal/web"
	"carillon/library"
)

// Library is the part of library.Service that the API needs.
type Library interface {
	accountLibrary
	recordingLibrary
	exportLibrary
	editLibrary
	nameLibrary
	playlistLibrary
	eventLibrary
	webhookLibrary
	spooler
	backupLibrary
	Put(ctx context.Context, account, id string, body io.Reader, opts library.PutOptions) (
		library.Document, bool, error)
	Get(ctx context.Context, account, id string, c library.Consistency) (library.Document, error)
	Delete(ctx context.Context, account, id, ifMatch string) error
	Update(ctx context.Context, account, id string, p library.Patch) (library.Document, error)
	List(ctx context.Context, account string, q library.ListQuery) (library.Page, error)
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
	// Ingest says which networks may PUT sound without a token (ingest.allow);
	// nil: none.
	Ingest func(netip.Addr) bool
	// Status describes the cluster as this node sees it; what it returns is
	// sent as JSON.
	Status func(ctx context.Context) (any, error)
	// Verify lets every replica of a blob read and hash its own copy.
	Verify func(ctx context.Context, id blobstore.ID) (blobstore.Verification, error)
	// Nodes changes what is wanted of the cluster's nodes.
	Nodes Nodes
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
	for _, method := range []string{http.MethodPut, http.MethodPost} {
		// A login may be of an account: the check is the handler's.
		e.Add(method, "/media/:account/*", s.guardedBy("put_media", anybody, s.putMedia))
	}
	e.DELETE("/media/:account/*", s.guarded("delete_media", s.deleteMedia))

	e.GET("/v1/accounts/:account/media", s.guarded("list_media", s.listMedia))
	e.GET("/v1/accounts/:account/media/:id/verify", s.guarded("verify_media", s.verifyMedia))
	e.GET("/v1/accounts/:account/media/:id/uses", s.guarded("media_uses", s.mediaUses))
	e.GET("/v1/accounts/:account/media/*", s.guarded("get_document", s.getDocument))
	e.PATCH("/v1/accounts/:account/media/*", s.guarded("patch_document", s.patchDocument))
	e.DELETE("/v1/accounts/:account/media/*", s.guarded("delete_media", s.deleteMedia))
	s.accountRoutes(e)
	s.exportRoutes(e)
	s.editRoutes(e)
	s.nameRoutes(e)
	s.playlistRoutes(e)

	s.recordingRoutes(e)

	s.webhookRoutes(e)
	s.backupRoutes(e)
	e.GET("/v1/events", s.guarded("events", s.events))
	e.GET("/v1/spool", s.guarded("list_spool", s.listSpool))
	e.GET("/v1/spool/:id", s.guarded("get_spool", s.getSpool))
	e.GET("/v1/cluster", s.guarded("cluster", s.cluster))
	s.clusterNodeRoutes(e)
	e.GET("/v1/openapi.json", s.guarded("openapi", s.openAPI))
	e.GET("/v1/version", s.guarded("version", s.version))
	// What is under /v1 is nobody's business without a token, not even that it
	// is not there.
	e.Any(unknownPath, s.guarded("unknown", unknown))

	for _, method := range []string{http.MethodGet, http.MethodHead} {
		e.Add(method, "/healthz", s.healthz)
		e.Add(method, "/readyz", s.readyz)
	}
	e.GET("/metrics", s.metricsPage(promhttp.HandlerFor(s.deps.Gatherer, promhttp.HandlerOpts{
		MaxRequestsInFlight: scrapesMax,
	})))
}

// unknownPath is where requests come to that no route takes.
const unknownPath = "/v1/*"

// unknown answers them: 405 for a path that other methods have.
func unknown(c echo.Context) error {
	e := c.Echo()
	var allowed []string
	for _, method := range []string{
		http.MethodGet, http.MethodPut, http.MethodPost, http.MethodPatch, http.MethodDelete,
	} {
		other := e.AcquireContext()
		other.Reset(c.Request(), c.Response())
		if e.Router().Find(method, echo.GetPath(c.Request()), other); other.Path() != unknownPath {
			allowed = append(allowed, method)
		}
		e.ReleaseContext(other)
	}
	if allowed == nil {
		return echo.ErrNotFound
	}
	c.Response().Header().Set("Allow", strings.Join(allowed, ", "))
	return echo.ErrMethodNotAllowed
}

// scrapesMax: a scrape costs milliseconds of CPU; nobody needs more at once.
const scrapesMax = 4

// guarded checks the token before anything of the request is looked at, and
// measures.
func (s *Server) guarded(name string, next echo.HandlerFunc) echo.HandlerFunc {
	return s.guardedBy(name, s.deps.Tokens.Allow, next)
}

// guardedBy is guarded with another check.
func (s *Server) guardedBy(
	name string, may func(*http.Request) bool, next echo.HandlerFunc,
) echo.HandlerFunc {
	observe := s.metrics.route(name)
	return func(c echo.Context) error {
		start := time.Now()
		web.RequestID(c)
		err := web.ErrUnauthorized
		if may(c.Request()) {
			err = next(c)
		}
		status := c.Response().Status
		if err != nil && !c.Response().Committed {
			status = web.FaultOf(err).Status
		}
		observe(status, time.Since(start))
		return err
	}
}

// anybody lets everybody in, for handlers that look for themselves.
func anybody(*http.Request) bool { return true }

// checkIngest returns an error unless the client may PUT sound into an account:
// because it may into any, or by a login of shout.sources, which is of one. So
// the credentials in a dialplan's URL need not open the whole API.
func (s *Server) checkIngest(r *http.Request, account string) error {
	if s.mayIngest(r) {
		return nil
	}
	user, password, ok := r.BasicAuth()
	if !ok {
		return web.ErrUnauthorized
	}
	own, ok := s.deps.Library.SourceAccount(user, password)
	switch {
	case !ok:
		return web.ErrUnauthorized
	case own != account:
		return fmt.Errorf("this login is of the account %s: %w", own, library.ErrForbidden)
	}
	return nil
}

// mayIngest says whether the client may PUT sound: it has a token, or it shows
// nothing and comes from a network that needs none. Wrong credentials are not
// made right by the network, and neither is a browser that another site has
// told to post a form.
func (s *Server) mayIngest(r *http.Request) bool {
	if r.Header.Get("Authorization") != "" || s.deps.Ingest == nil ||
		http.NewCrossOriginProtection().Check(r) != nil {
		return s.deps.Tokens.Allow(r)
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && s.deps.Ingest(peer.Addr().Unmap().WithZone(""))
}
