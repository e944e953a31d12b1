package web

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"carillon/library"
)

const (
	requestIDHeader = "X-Request-Id"
	// requestIDBytesMax holds a UUID and the longer ids of common proxies.
	requestIDBytesMax = 64
	// requestIDBytes of our own: enough to find one line in a log of years.
	requestIDBytes = 8
)

// New makes the echo that all doors put their routes on. The access log is
// installed only if log takes debug lines now: at 10,000 requests a second
// even a disabled middleware is an allocation too many.
func New(log *slog.Logger) *echo.Echo {
	log = log.With("component", "web")
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.Logger.SetOutput(io.Discard) // echo logs nothing that our handlers do not return
	e.HTTPErrorHandler = errorHandler(log)
	e.Use(recovering(log))
	if log.Enabled(context.Background(), slog.LevelDebug) {
		e.Use(accessLog(log))
	}
	return e
}

// recovering answers 500 when a handler panics: a client is never left
// without a status line.
func recovering(log *slog.Logger) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			defer func() {
				p := recover()
				if p == nil {
					return
				}
				if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so, too
					panic(p)
				}
				log.Error("handler panicked", "request_id", RequestID(c), "method", c.Request().Method,
					"path", logPath(c.Request()), "panic", p, "stack", string(debug.Stack()))
				if c.Response().Committed {
					panic(http.ErrAbortHandler)
				}
				fault := library.Fault{Status: http.StatusInternalServerError, Code: "internal"}
				answer(c.Response(), c.Request(), fault, "internal server error", nil)
			}()
			return next(c)
		}
	}
}

// accessLog writes one line a request.
func accessLog(log *slog.Logger) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			start := time.Now()
			RequestID(c)
			err := next(c)
			status := c.Response().Status
			if err != nil && !c.Response().Committed {
				status = FaultOf(err).Status
			}
			r := c.Request()
			log.Debug("request", "request_id", RequestID(c), "method", r.Method, "path", logPath(r),
				"status", status, "bytes", c.Response().Size, "remote", r.RemoteAddr,
				"duration_ms", time.Since(start).Milliseconds())
			return err
		}
	}
}

// RequestID is the id under which this request is found in the log. It takes
// the client's, if that is well formed, and is sent back.
func RequestID(c echo.Context) string {
	h := c.Response().Header()
	if id := h.Get(requestIDHeader); id != "" {
		return id
	}
	id := c.Request().Header.Get(requestIDHeader)
	if !wellFormedID(id) {
		var b [requestIDBytes]byte
		_, _ = rand.Read(b[:]) // never fails, see crypto/rand.Read
		id = hex.EncodeToString(b[:])
	}
	h.Set(requestIDHeader, id)
	return id
}

func wellFormedID(id string) bool {
	if id == "" || len(id) > requestIDBytesMax {
		return false
	}
	for i := range len(id) {
		c := id[i]
		alnum := '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !alnum && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// Param is a path parameter, decoded once. Echo routes on the raw path when a
// client escaped more than needed (`%2F`), and then parameters come escaped.
func Param(c echo.Context, name string) (string, error) {
	v := c.Param(name)
	if c.Request().URL.RawPath == "" {
		return v, nil
	}
	v, err := url.PathUnescape(v)
	if err != nil {
		return "", &Error{http.StatusBadRequest, library.FaultOf(library.ErrBadName).Code, "bad escape in the path"}
	}
	return v, nil
}

// logPath is the path without the token of a playback URL, and of bounded
// length.
func logPath(r *http.Request) string {
	path := r.URL.Path
	if rest, ok := strings.CutPrefix(path, "/play/"); ok {
		_, rest, _ = strings.Cut(rest, "/")
		path = "/play/***/" + rest
	}
	if len(path) > messageBytesMax {
		path = path[:messageBytesMax] + "…"
	}
	return path
}
