package web

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"carillon/library"
	"carillon/library/field"
)

const (
	// messageBytesMax bounds what of an error's text is sent: it may quote a
	// name of any length.
	messageBytesMax = 300
	// noStore keeps http_cache and proxies from remembering a failure.
	noStore = "no-store"
	// codeHeader carries the code of an error whose answer has no body.
	codeHeader = "X-Carillon-Error"
	// drainWait is what net/http waits itself where it does (rstAvoidanceDelay).
	drainWait = 500 * time.Millisecond
	// retryAfter: an election takes about a second.
	retryAfter = "1"
)

// Error is a refusal made by a door itself, for which the domain has no
// sentinel.
type Error struct {
	Status  int
	Code    string // stable, for programs
	Message string // for people
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// ErrBodyStalled is returned when a request's body brings no byte for the
// configured time.
var ErrBodyStalled error = &Error{http.StatusRequestTimeout, "timeout", "request body stalled"}

// ErrUnauthorized is returned when a request needs an API token and has none
// that we know.
var ErrUnauthorized error = &Error{http.StatusUnauthorized, "unauthorized", "an API token is needed"}

// ErrForbidden is returned when a network may not play.
var ErrForbidden error = &Error{http.StatusForbidden, "forbidden", "not allowed from this address"}

// FaultOf is library.FaultOf plus what only HTTP knows: refusals of a door and
// of the router.
func FaultOf(err error) library.Fault {
	if own, ok := errors.AsType[*Error](err); ok {
		return library.Fault{Status: own.Status, Code: own.Code}
	}
	if routed, ok := errors.AsType[*echo.HTTPError](err); ok {
		return library.Fault{Status: routed.Code, Code: codeOf(routed.Code)}
	}
	return library.FaultOf(err)
}

// codeOf makes a code of a status that the router chose: "not_found".
func codeOf(status int) string {
	return strings.ReplaceAll(strings.ToLower(http.StatusText(status)), " ", "_")
}

// IsPlayback says whether r is answered to a player, whose decoder would take
// an error page for sound: its errors have an empty body.
func IsPlayback(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		(strings.HasPrefix(r.URL.Path, "/media/") || strings.HasPrefix(r.URL.Path, "/play/"))
}

// errorHandler is the only place where an error becomes a response.
func errorHandler(log *slog.Logger) echo.HTTPErrorHandler {
	return func(err error, c echo.Context) {
		r := c.Request()
		fault := FaultOf(err)
		if c.Response().Committed {
			log.Debug("response cut", "request_id", RequestID(c), "method", r.Method, "path", logPath(r), "err", err)
			// The status is out. Only a broken connection can still tell the
			// client that what it has is not all: a chunked body that ends in
			// order would look whole.
			panic(http.ErrAbortHandler)
		}
		level := slog.LevelDebug
		if fault.Status >= http.StatusInternalServerError {
			level = slog.LevelError
			if r.Context().Err() != nil || fault.Status == http.StatusServiceUnavailable {
				level = slog.LevelWarn
			}
		}
		log.Log(r.Context(), level, "request failed", "request_id", RequestID(c), "method", r.Method,
			"path", logPath(r), "status", fault.Status, "code", fault.Code, "err", err)
		fields, _ := errors.AsType[field.Errors](err)
		answer(c.Response(), r, fault, messageOf(err, fault), fields)
		drain(c.Response(), r)
	}
}

// Explain is what a client is told of an error that is a part of an answer: its
// code, a message, and the fields at fault, if it is them.
func Explain(err error) (code, message string, fields field.Errors) {
	fault := FaultOf(err)
	fields, _ = errors.AsType[field.Errors](err)
	return fault.Code, messageOf(err, fault), fields
}

// messageOf is what a client may know of err: everything of what it did
// wrong itself, nothing of what went wrong here.
func messageOf(err error, fault library.Fault) string {
	msg := err.Error()
	own, isOwn := errors.AsType[*Error](err)
	_, isRouted := errors.AsType[*echo.HTTPError](err)
	switch {
	case isOwn:
		msg = own.Message
	case isRouted, fault.Status >= http.StatusInternalServerError:
		msg = strings.ToLower(http.StatusText(fault.Status))
	}
	if len(msg) > messageBytesMax {
		msg = msg[:messageBytesMax] + "…"
	}
	return strings.ToValidUTF8(msg, "?")
}

// answer writes the error response; fields say which parts of the request are
// at fault, if it is that.
func answer(
	w http.ResponseWriter, r *http.Request, fault library.Fault, message string, fields field.Errors,
) {
	h := w.Header()
	h.Set("Cache-Control", noStore)
	switch fault.Status {
	case http.StatusUnauthorized:
		scheme := "Bearer"
		if IsPlayback(r) { // an account's password; see library.MayListen
			scheme = "Basic"
		}
		h.Set("WWW-Authenticate", scheme+` realm="carillon"`)
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", retryAfter)
	}
	if IsPlayback(r) {
		h.Set(codeHeader, fault.Code) // there is no body to say why
		h.Set("Content-Length", "0")  // for HEAD, too: net/http only knows it of GET
		w.WriteHeader(fault.Status)
		return
	}
	var body struct {
		Error struct {
			Code      string       `json:"code"`
			Message   string       `json:"message"`
			RequestID string       `json:"request_id"`
			Fields    field.Errors `json:"fields,omitempty"`
		} `json:"error"`
	}
	body.Error.Code, body.Error.Fields = fault.Code, fields
	body.Error.Message = message
	body.Error.RequestID = h.Get(requestIDHeader)
	b, _ := json.Marshal(body) // strings cannot fail
	b = append(b, '\n')
	h.Set("Content-Length", strconv.Itoa(len(b))) // else drain would make chunks of it
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(fault.Status)
	_, _ = w.Write(b)
}

// drain takes what a refused client is still sending, for a moment, so that
// it comes to read the answer. Closing at once would reset the connection and
// the answer with it. Net/http sees to that itself, but not if the request
// said `Connection: close` (or HTTP/1.0) and has a length.
func drain(w http.ResponseWriter, r *http.Request) {
	if !r.Close || r.ContentLength <= 0 || r.Header.Get("Expect") != "" {
		return
	}
	control := http.NewResponseController(w)
	if control.Flush() != nil || control.SetReadDeadline(time.Now().Add(drainWait)) != nil {
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
}
