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
	"carillon/internal/relay"
	"carillon/internal/web"
	"carillon/library"
	"carillon/library/station"
)

// Library is the part of library.Service that playing needs.
type Library interface {
	Get(ctx context.Context, account, id string, c library.Consistency) (library.Document, error)
	MayListen(ctx context.Context, w library.Listening) error
	LiveGain(ctx context.Context, account string, f library.Form) (float64, error)
	Tune(ctx context.Context, account, id string, f library.Form) (station.Tuned, error)
	OpenStream(ctx context.Context, token string) (account, id string, ok bool, err error)
	OpenPlay(ctx context.Context, token string) (library.Document, error)
	Playing(ctx context.Context, account, id string) (m library.Mount, ext string, err error)
	Render(ctx context.Context, d *library.Document, f library.Form) (library.Rendition, error)
	RenderRecording(ctx context.Context, r *library.Recording, f library.Form) (library.Rendition, error)
	OpenRendition(ctx context.Context, r library.Rendition) (*blobstore.Reader, error)
	ListenURL(r library.Recording) string
	Recording(ctx context.Context, id string) (library.Recording, error)
	OpenRecording(ctx context.Context, recordingID string, from library.From) (
		*blobstore.Reader, library.Recording, error)
}

// Deps are the parts a Server stands on.
type Deps struct {
	Library Library
	// Allow says which networks may play without a token (streams.allow).
	Allow  func(netip.Addr) bool
	Tokens *web.Tokens
	// Audience takes over the listeners of what goes on, and those who read
	// slowly.
	Audience *audience.Audience
	// Burst is the lead of a listener of what goes on, who is dropped when he is
	// BehindMax behind; Stall drops one who takes nothing of what is there. Zero:
	// the defaults of library and web.
	Burst, BehindMax, Stall time.Duration
	Log                     *slog.Logger
	Metrics                 prometheus.Registerer
}

// Server plays.
type Server struct {
	library Library
	allow   func(netip.Addr) bool
	tokens  *web.Tokens

	audience  *audience.Audience
	relay     *relay.Relay
	behindMax time.Duration
	stall     time.Duration

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
	s := &Server{
		library: deps.Library,
		allow:   deps.Allow,
		tokens:  deps.Tokens,

		audience:  deps.Audience,
		behindMax: cmp.Or(deps.BehindMax, library.BehindMaxDefault),
		stall:     cmp.Or(deps.Stall, web.WriteStallDefault),

		log:     deps.Log.With("component", "streamserver"),
		metrics: m,
	}
	s.relay = relay.New(relay.Config{
		Burst: cmp.Or(deps.Burst, library.BurstDefault), BehindMax: s.behindMax, Stall: s.stall,
	}, relay.Deps{Open: s.openLive, Recording: s.library.Recording, Audience: s.audience, Log: s.log})
	return s, nil
}

// openLive is OpenRecording for the relay.
func (s *Server) openLive(ctx context.Context, id string) (audience.Source, library.Recording, error) {
	rd, rec, err := s.library.OpenRecording(ctx, id, library.FromStart)
	if err != nil {
		return nil, rec, err // and not a nil Reader in an interface
	}
	return rd, rec, nil
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
