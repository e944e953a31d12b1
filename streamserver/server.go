package streamserver

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"carillon/blobstore"
	"carillon/internal/audience"
	"carillon/internal/web"
	"carillon/library"
)

// Library is the part of library.Service that playing needs.
type Library interface {
	Get(ctx context.Context, account, id string, c library.Consistency) (library.Document, error)
	MayListen(ctx context.Context, w library.Listening) error
	Tune(ctx context.Context, account, id string, f library.Form) (library.Tuned, error)
	OpenStream(ctx context.Context, token string) (account, id string, ok bool, err error)
	OpenPlay(ctx context.Context, token string) (library.Document, error)
	Playing(ctx context.Context, account, id string) (m library.Mount, ext string, err error)
	Render(ctx context.Context, d *library.Document, f library.Form) (library.Rendition, error)
	RenderRecording(ctx context.Context, r *library.Recording, f library.Form) (library.Rendition, error)
	OpenRendition(ctx context.Context, r library.Rendition) (*blobstore.Reader, error)
	ListenURL(r library.Recording) string
	OpenRecording(ctx context.Context, recordingID string, from library.From) (
		*blobstore.Reader, library.Recording, error)
}

// Deps are the parts a Server stands on.
type Deps struct {
	Library Library
	// Allow says which networks may play without a token (streams.allow).
	Allow  func(netip.Addr) bool
	Tokens *web.Tokens
	// Audience takes over the listeners of continuous streams, and drops who is
	// BehindMax behind (0: library.BehindMaxDefault).
	Audience  *audience.Audience
	BehindMax time.Duration
	Log       *slog.Logger
	Metrics   prometheus.Registerer
}

// Server plays.
type Server struct {
	library Library
	allow   func(netip.Addr) bool
	tokens  *web.Tokens

	audience  *audience.Audience
	behindMax time.Duration

	log     *slog.Logger
	metrics *metrics
}

// New makes a Server. It starts nothing, so there is nothing to close: its
// players end with the requests of the web server that carries its routes.
func New(deps Deps) (*Server, error) {
	m, err := newMetrics(deps.Metrics)
	if err != nil {
		return nil, fmt.Errorf("streamserver metrics: %w", err)
	}
	return &Server{
		library: deps.Library,
		allow:   deps.Allow,
		tokens:  deps.Tokens,

		audience:  deps.Audience,
		behindMax: cmp.Or(deps.BehindMax, library.BehindMaxDefault),

		log:     deps.Log.With("component", "streamserver"),
		metrics: m,
	}, nil
}

// Routes puts the playback routes on e.
func (s *Server) Routes(e *echo.Echo) {
	media, play := s.counted(s.media), s.counted(s.play)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		e.Add(method, "/media/:account/*", media)
		e.Add(method, "/play/:token/*", play)
	}
}

// counted measures a handler. The status of an error is known before the one
// error handler writes it.
func (s *Server) counted(next func(*player) error) echo.HandlerFunc {
	return func(c echo.Context) error {
		p := player{c: c, w: c.Response(), r: c.Request(), server: s, start: time.Now()}
		s.metrics.active.Inc()
		defer s.metrics.active.Dec()
		err := next(&p)
		status := c.Response().Status
		if err != nil && !c.Response().Committed {
			status = web.FaultOf(err).Status
		}
		s.metrics.requests(status).Inc()
		s.metrics.bytes.Add(float64(c.Response().Size))
		return err
	}
}
