package web

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"go.uber.org/goleak"

	"carillon/library"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testWait bounds every wait of a test; nothing here takes a tenth of it.
const testWait = 10 * time.Second

// logBuffer is a log that tests can read while servers write.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newLog(level slog.Level) (*slog.Logger, *logBuffer) {
	b := &logBuffer{}
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: level})), b
}

// serve opens a server that is closed with the test.
func serve(t *testing.T, cfg Config, routes func(*echo.Echo)) *Server {
	t.Helper()
	log, _ := newLog(slog.LevelDebug)
	e := New(log)
	routes(e)
	cfg.Addr = "127.0.0.1:0"
	s, err := Open(cfg, Deps{Handler: e, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	})
	return s
}

func dial(t *testing.T, s *Server) net.Conn {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(testWait)); err != nil {
		t.Fatal(err)
	}
	return c
}

// head is the head of a response.
type head struct {
	StatusCode    int
	Header        http.Header
	ContentLength int64
}

// exchange sends raw bytes on a fresh connection and reads one response.
func exchange(t *testing.T, s *Server, request string) (h head, body string) {
	t.Helper()
	c := dial(t, s)
	// A server that refuses early may close before it has read everything.
	_, _ = io.WriteString(c, request)
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("read response: %v", err)
	}
	b, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatalf("read body: %v", err)
	}
	return head{resp.StatusCode, resp.Header, resp.ContentLength}, string(b)
}

// Every kind of error leaves by the one handler: the status from its table,
// JSON for programs, nothing for players, and no detail of our own faults.
func TestErrorAnswers(t *testing.T) {
	t.Parallel()
	secret := errors.New("disk /dev/sdb1 is on fire")
	routed := map[string]error{
		"notfound": fmt.Errorf("item a/b: %w", library.ErrNotFound),
		"name":     fmt.Errorf("id %s: %w", strings.Repeat("x", 5000), library.ErrBadName),
		"state":    library.ErrState,
		"down":     fmt.Errorf("shard 3 at 10.0.0.7: %w", library.ErrUnavailable),
		"unknown":  secret,
		"token":    ErrUnauthorized,
		"stalled":  fmt.Errorf("put: %w", ErrBodyStalled),
		"badutf8":  fmt.Errorf("name \xff\xfe: %w", library.ErrBadName),
	}
	s := serve(t, Config{}, func(e *echo.Echo) {
		h := func(c echo.Context) error { return routed[c.Param("what")] }
		e.GET("/v1/:what", h)
		e.GET("/media/:what", h)
		e.HEAD("/media/:what", h)
		e.PUT("/media/:what", h)
	})
	tests := []struct {
		method, path string
		status       int
		code         string // "": an empty body
		header       string // that must be there
	}{
		{"GET", "/v1/notfound", 404, "not_found", ""},
		{"GET", "/v1/name", 400, "bad_name", ""},
		{"GET", "/v1/badutf8", 400, "bad_name", ""},
		{"GET", "/v1/state", 409, "wrong_state", ""},
		{"GET", "/v1/down", 503, "unavailable", "Retry-After"},
		{"GET", "/v1/unknown", 500, "internal", ""},
		{"GET", "/v1/token", 401, "unauthorized", "Www-Authenticate"},
		{"GET", "/nowhere", 404, "not_found", ""},
		{"DELETE", "/v1/state", 405, "method_not_allowed", "Allow"},
		{"PUT", "/media/down", 503, "unavailable", "Retry-After"},
		{"PUT", "/media/stalled", 408, "timeout", ""},
		{"GET", "/media/notfound", 404, "", ""},
		{"GET", "/media/unknown", 500, "", ""},
		{"HEAD", "/media/down", 503, "", "Retry-After"},
		{"GET", "/play/none/such", 404, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.method+tt.path, func(t *testing.T) {
			t.Parallel()
			resp, body := exchange(t, s,
				tt.method+" "+tt.path+" HTTP/1.1\r\nHost: x\r\nX-Request-Id: my-id.7\r\n\r\n")
			if resp.StatusCode != tt.status {
				t.Errorf("status %d, want %d", resp.StatusCode, tt.status)
			}
			if tt.header != "" && resp.Header.Get(tt.header) == "" {
				t.Errorf("no header %s", tt.header)
			}
			if resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("X-Request-Id") != "my-id.7" {
				t.Errorf("headers %v", resp.Header)
			}
			checkErrorBody(t, body, tt.code)
		})
	}
}

// checkErrorBody checks what a client is told: nothing if there is no code.
func checkErrorBody(t *testing.T, body, code string) {
	t.Helper()
	if code == "" {
		if body != "" {
			t.Errorf("body %q, want none", body)
		}
		return
	}
	var got struct {
		Error struct {
			Code, Message string
			RequestID     string `json:"request_id"`
		}
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("body %q: %v", body, err)
	}
	if got.Error.Code != code || got.Error.RequestID != "my-id.7" || got.Error.Message == "" {
		t.Errorf("got %+v, want code %s", got.Error, code)
	}
	if len(body) > 600 || strings.Contains(body, "fire") || strings.Contains(body, "10.0.0.7") {
		t.Errorf("body tells too much: %s", body)
	}
}

// A panic is a 500 with the detail in the log only, and the server lives on.
func TestPanic(t *testing.T) {
	t.Parallel()
	log, logged := newLog(slog.LevelError)
	e := New(log)
	e.GET("/v1/panic", func(echo.Context) error { panic("the detail") })
	for range 2 {
		w := httptest.NewRecorder()
		e.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/panic", http.NoBody))
		if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "detail") {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	}
	if n := strings.Count(logged.String(), "the detail"); n != 2 {
		t.Errorf("%d panics in the log, want 2", n)
	}
}

// An error after the status is out must not look like the end of the body.
func TestErrorAfterCommitCutsConnection(t *testing.T) {
	t.Parallel()
	s := serve(t, Config{}, func(e *echo.Echo) {
		e.GET("/media/x", func(c echo.Context) error {
			if _, err := io.WriteString(c.Response(), "some sound"); err != nil {
				return err
			}
			c.Response().Flush()
			return io.ErrUnexpectedEOF
		})
	})
	c := dial(t, s)
	if _, err := io.WriteString(c, "GET /media/x HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("body %q ended in order", body)
	}
}

// A body that stops coming is a 408; one that came whole does not lose its
// request to the deadline that watched it.
func TestReadStall(t *testing.T) {
	t.Parallel()
	const stall = 150 * time.Millisecond
	s := serve(t, Config{ReadStall: stall}, func(e *echo.Echo) {
		e.PUT("/media/x", func(c echo.Context) error {
			body := NewBody(c.Response(), c.Request())
			n, err := io.Copy(io.Discard, body)
			if err != nil {
				return fmt.Errorf("store: %w", err)
			}
			select {
			case <-c.Request().Context().Done():
				return c.Request().Context().Err()
			case <-time.After(2 * stall):
			}
			return c.String(http.StatusOK, fmt.Sprint(n, body.Size(), body.Stalled()))
		})
	})
	resp, body := exchange(t, s, "PUT /media/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
	if resp.StatusCode != http.StatusRequestTimeout || !strings.Contains(body, `"timeout"`) {
		t.Errorf("half a body: %d %s", resp.StatusCode, body)
	}
	resp, body = exchange(t, s, "PUT /media/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345")
	if resp.StatusCode != http.StatusOK || body != "5 5 false" {
		t.Errorf("whole body: %d %s", resp.StatusCode, body)
	}
}

// Too many header lines, and what is no request, are refused before any
// handler sees them, with an empty body.
func TestEarlyRefusals(t *testing.T) {
	t.Parallel()
	s := serve(t, Config{}, func(e *echo.Echo) {
		e.GET("/media/x", func(echo.Context) error { return errors.New("the handler was called") })
	})
	var b strings.Builder
	b.WriteString("GET /media/x HTTP/1.1\r\nHost: x\r\n")
	for i := range 10_000 {
		fmt.Fprintf(&b, "X-%d: y\r\n", i)
	}
	for request, status := range map[string]int{
		b.String() + "\r\n":                                                    431,
		"GET /media/x HTTP/1.1\r\n\r\n":                                        400, // no host
		"GET /media/%zz HTTP/1.1\r\nHost: x\r\n\r\n":                           400,
		"GET /media/x HTTP/1.1\r\nHost: x\r\nA\x00: b\r\n\r\n":                 400,
		"GET /media/x HTTP/2.7\r\nHost: x\r\n\r\n":                             505,
		"PUT /media/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n":  501,
		"PUT /media/x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n":       400,
		"GET /media/x HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 1<<20): 431,
		"nonsense\r\n\r\n": 400,
	} {
		resp, body := exchange(t, s, request)
		if resp.StatusCode != status || resp.ContentLength != 0 || body != "" {
			t.Errorf("%.80q: %d %q, want %d", request, resp.StatusCode, body, status)
		}
	}
}

// Close lets a short request finish and cuts a long one off after the grace.
func TestClose(t *testing.T) {
	t.Parallel()
	log, _ := newLog(slog.LevelError)
	e := New(log)
	started, release := make(chan struct{}, 2), make(chan struct{})
	e.GET("/v1/short", func(c echo.Context) error {
		started <- struct{}{}
		<-release
		return c.String(http.StatusOK, "whole")
	})
	ended := make(chan struct{})
	e.GET("/v1/long", func(c echo.Context) error {
		started <- struct{}{}
		<-c.Request().Context().Done()
		close(ended)
		return c.Request().Context().Err()
	})
	s, err := Open(Config{Addr: "127.0.0.1:0", Grace: 2 * time.Second}, Deps{Handler: e, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	short, long := dial(t, s), dial(t, s)
	_, _ = io.WriteString(short, "GET /v1/short HTTP/1.1\r\nHost: x\r\n\r\n")
	_, _ = io.WriteString(long, "GET /v1/long HTTP/1.1\r\nHost: x\r\n\r\n")
	<-started
	<-started
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	<-s.Done() // nothing new is accepted now
	close(release)
	resp, err := http.ReadResponse(bufio.NewReader(short), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || string(body) != "whole" {
		t.Errorf("short request: %q, %v", body, err)
	}
	if err := <-closed; err != nil {
		t.Errorf("close: %v", err)
	}
	select {
	case <-ended:
	default:
		t.Error("close returned before the long request ended")
	}
}

// Tokens come as Bearer, or as a Basic password for FreeSWITCH's sake, and
// are never printed.
func TestTokens(t *testing.T) {
	t.Parallel()
	tokens := NewTokens("", "s3cret-one", "s3cret-two")
	tests := []struct {
		header string
		want   bool
	}{
		{"Bearer s3cret-one", true},
		{"bearer s3cret-two", true},
		{"BEARER  s3cret-two", true},
		{"Basic YW55OnMzY3JldC1vbmU=", true}, // any:s3cret-one
		{"Basic czNjcmV0LW9uZTphbnk=", false},
		{"Bearer s3cret-three", false},
		{"Bearer ", false},
		{"Bearer", false},
		{"Basic Og==", false}, // an unset token is no empty password
		{"s3cret-one", false},
		{"", false},
	}
	for _, tt := range tests {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		r.Header.Set("Authorization", tt.header)
		if got := tokens.Allow(r); got != tt.want {
			t.Errorf("%q: %v, want %v", tt.header, got, tt.want)
		}
		if NewTokens().Allow(r) || (*Tokens)(nil).Allow(r) {
			t.Errorf("%q opens a node without tokens", tt.header)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		if s := fmt.Sprintf(verb, tokens); s != "***" {
			t.Errorf("tokens print as %s", s)
		}
	}
}

// Only well formed request ids are taken over; the access log names the path
// without a playback token.
func TestRequestIDAndAccessLog(t *testing.T) {
	t.Parallel()
	log, logged := newLog(slog.LevelDebug)
	e := New(log)
	e.GET("/play/:token/*", func(c echo.Context) error { return c.NoContent(http.StatusNoContent) })
	for id, kept := range map[string]bool{
		"": false, "abc-1.2_Z": true, "a b": false, strings.Repeat("x", 65): false, "a\"b": false, "ä": false,
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/play/the-token/a.wav", http.NoBody)
		r.Header.Set("X-Request-Id", id)
		e.ServeHTTP(w, r)
		if got := w.Header().Get("X-Request-Id"); (got == id) != kept || got == "" {
			t.Errorf("id %q became %q", id, got)
		}
	}
	if s := logged.String(); strings.Contains(s, "the-token") || !strings.Contains(s, "/play/***/a.wav") {
		t.Errorf("log:\n%s", s)
	}
}

// Goal: a refusal has a length and no chunks, also when its client says that it
// closes and is waited for while it sends on.
func TestRefusalHasLength(t *testing.T) {
	t.Parallel()
	s := serve(t, Config{}, func(e *echo.Echo) {
		e.PUT("/v1/x", func(echo.Context) error { return ErrUnauthorized })
	})
	for _, header := range []string{"", "Connection: close\r\n"} {
		c := dial(t, s)
		_, err := io.WriteString(c, "PUT /v1/x HTTP/1.1\r\nHost: x\r\n"+header+"Content-Length: 5\r\n\r\nsound")
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || len(body) == 0 || resp.ContentLength != int64(len(body)) || resp.TransferEncoding != nil {
			t.Errorf("%q: length %d of %d, %v, %v", header, resp.ContentLength, len(body), resp.TransferEncoding, err)
		}
		_ = resp.Body.Close()
	}
}
