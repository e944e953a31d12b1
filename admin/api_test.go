package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"carillon/internal/web"
	"carillon/library"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testToken = "t0ken-of-the-test"
	// uploadBytesMax of the tests: small enough to exceed it quickly.
	uploadBytesMax = 1 << 20
	// testWait bounds every wait of a test; nothing here takes a tenth of it.
	testWait = 10 * time.Second
)

// node is the API over real TCP, on a fake library.
type node struct {
	fake  *fakeLibrary
	addr  string
	url   string
	ready error
	allow bool
	log   *logBuffer

	stopping chan struct{}
	api      *Server
}

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

// newNode takes the fake library, or a real one with an upload limit of
// uploadBytesMax.
func newNode(tb testing.TB, lib Library) *node {
	tb.Helper()
	n := &node{allow: true, log: &logBuffer{}, stopping: make(chan struct{})}
	n.fake, _ = lib.(*fakeLibrary)
	log := slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	reg := prometheus.NewRegistry()
	api, err := New(Config{
		UploadBytesMax: uploadBytesMax, HTTPURL: "http://node:8080", ShoutHost: "node:8000",
		Version: Version{Version: "1.2.3", Go: "go1"},
	}, Deps{
		Library: lib,
		Tokens:  web.NewTokens(testToken),
		Allow:   func(netip.Addr) bool { return n.allow },
		Status:  func(context.Context) (any, error) { return map[string]int{"nodes": 3}, nil },
		Nodes:   fakeNodes{},
		Ready:   func() error { return n.ready },
		Log:     log, Metrics: reg, Gatherer: reg, Stopping: n.stopping,
	})
	if err != nil {
		tb.Fatal(err)
	}
	n.api = api
	e := web.New(log)
	api.Routes(e)
	srv, err := web.Open(web.Config{
		Addr: "127.0.0.1:0", ReadStall: 300 * time.Millisecond, Grace: testWait,
	}, web.Deps{Handler: e, Log: log})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := srv.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
		if strings.Contains(n.log.String(), testToken) || strings.Contains(n.log.String(), "t1cket-secret") {
			tb.Error("a secret is in the log")
		}
	})
	n.addr = srv.Addr().String()
	n.url = "http://" + n.addr
	return n
}

// answer is a response, read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

// code is the code of an error answer.
func (a answer) code() string {
	var v struct {
		Error struct {
			Code      string `json:"code"`
			RequestID string `json:"request_id"`
		} `json:"error"`
	}
	if json.Unmarshal([]byte(a.body), &v) != nil || v.Error.RequestID == "" {
		return ""
	}
	return v.Error.Code
}

// do sends a request; headers are "Name: value".
func (n *node) do(tb testing.TB, method, path, body string, headers ...string) answer {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), testWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, n.url+path, strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		tb.Fatalf("%s %s: %v", method, path, err)
	}
	b, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		tb.Fatal(err)
	}
	asDocumented(tb, method, path, resp.StatusCode, b)
	return answer{resp.StatusCode, resp.Header, string(b)}
}

const auth = "Authorization: Bearer " + testToken

func (n *node) put(t *testing.T, path, body string) {
	t.Helper()
	if a := n.do(t, http.MethodPut, path, body, auth); a.status/100 != 2 {
		t.Fatalf("put %s: %d %s", path, a.status, a.body)
	}
}

// scenario is one request and what must come back.
type scenario struct {
	name         string
	method, path string
	body         string
	headers      []string
	status       int
	code         string   // of an error answer
	contains     []string // in the body
	lacks        string   // in the body
	wantHeader   string   // "Name: value"
}

func (n *node) run(t *testing.T, scenarios []scenario) {
	t.Helper()
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			a := n.do(t, sc.method, sc.path, sc.body, append([]string{auth}, sc.headers...)...)
			if a.status != sc.status {
				t.Fatalf("status %d, want %d: %s", a.status, sc.status, a.body)
			}
			if a.status >= http.StatusBadRequest && a.code() != sc.code {
				t.Errorf("code %q, want %q: %s", a.code(), sc.code, a.body)
			}
			for _, want := range sc.contains {
				if !strings.Contains(a.body, want) {
					t.Errorf("body lacks %s: %s", want, a.body)
				}
			}
			if sc.lacks != "" && strings.Contains(a.body, sc.lacks) {
				t.Errorf("body holds %s: %s", sc.lacks, a.body)
			}
			if name, value, ok := strings.Cut(sc.wantHeader, ": "); ok && a.header.Get(name) != value {
				t.Errorf("header %s is %q, want %q", name, a.header.Get(name), value)
			}
		})
	}
}

func TestPutMedia(t *testing.T) {
	n := newNode(t, newFake())
	long := strings.Repeat("n", 10_000)
	etag := `"` + sumOf("hello") + `"`
	n.run(t, []scenario{
		{
			name: "created", method: "PUT",
			path: "/media/acc/a/b%20c.wav?name=N&language=en-us&prompt_id=p&session_id=x", body: "hello",
			headers: []string{"X-Carillon-Meta-Caller: J%C3%B6rg", "Content-Type: audio/wav"}, status: 201,
			contains: []string{
				`"id":"a/b c.wav"`, `"name":"N"`, `"language":"en-us"`, `"prompt_id":"p"`,
				`"content_length":5`, `{"caller":"Jörg"}`,
			},
			wantHeader: "ETag: " + etag,
		},
		{
			name: "replaced", method: "PUT", path: "/media/acc/a/b%20c.wav", body: "hello", status: 200,
			wantHeader: "ETag: " + etag,
		},
		{name: "escaped slash", method: "PUT", path: "/media/acc/a%2Fb%20c.wav", body: "hello", status: 200},
		{
			name: "only if new", method: "PUT", path: "/media/acc/a%2Fb%20c.wav", body: "x",
			headers: []string{"If-None-Match: *"}, status: 412, code: "precondition_failed",
		},
		{
			name: "only if known", method: "PUT", path: "/media/acc/a%2Fb%20c.wav", body: "hello",
			headers: []string{"If-Match: " + etag}, status: 200,
		},
		{name: "empty", method: "PUT", path: "/media/acc/e", status: 415, code: "unsupported_media"},
		{name: "dots", method: "PUT", path: "/media/acc/a/../b", body: "x", status: 400, code: "bad_name"},
		{
			name: "escaped dots", method: "PUT", path: "/media/acc/%2e%2e/b", body: "x", status: 400, code: "bad_name",
		},
		{name: "dots as account", method: "PUT", path: "/media/%2e%2e/b", body: "x", status: 400, code: "bad_name"},
		{name: "nul", method: "PUT", path: "/media/acc/a%00b", body: "x", status: 400, code: "bad_name"},
		{name: "bad utf-8", method: "PUT", path: "/media/acc/a%ff%fe", body: "x", status: 400, code: "bad_name"},
		{name: "no id", method: "PUT", path: "/media/acc/", body: "x", status: 400, code: "bad_name"},
		{
			name: "long id", method: "PUT", path: "/media/acc/" + long, body: "x", status: 400, code: "bad_name",
			lacks: long,
		},
		{
			name: "long account", method: "PUT", path: "/media/" + long + "/a", body: "x", status: 400,
			code: "bad_name", lacks: long,
		},
		{
			name: "too large", method: "PUT", path: "/media/acc/l", body: strings.Repeat("x", 1<<20+1),
			status: 413, code: "too_large",
		},
		{
			name: "packed", method: "PUT", path: "/media/acc/z", body: "x",
			headers: []string{"Content-Encoding: gzip"}, status: 415, code: "unsupported_media",
		},
		{
			name: "part", method: "PUT", path: "/media/acc/z", body: "x",
			headers: []string{"Content-Range: bytes 0-0/9"}, status: 400, code: "bad_request",
		},
		{
			name: "bad metadata", method: "PUT", path: "/media/acc/z", body: "x",
			headers: []string{"X-Carillon-Meta-K: %zz"}, status: 400, code: "bad_request",
		},
		{
			name: "much metadata", method: "PUT", path: "/media/acc/z", body: "x",
			headers: []string{"X-Carillon-Meta-K: " + strings.Repeat("v", 9000)}, status: 400, code: "bad_request",
		},
		{
			name: "no method", method: "PATCH", path: "/media/acc/z", body: "x", status: 405,
			code: "method_not_allowed",
		},
		{
			name: "field twice", method: "PUT", path: "/media/acc/z?name=a&name=b", body: "x", status: 400,
			code: "bad_request", contains: []string{`"fields":{"name":{"code":"invalid"`},
		},
		{
			name: "field badly escaped", method: "PUT", path: "/media/acc/z?name=%zz", body: "x", status: 400,
			code: "bad_request", contains: []string{`"fields":{"name":{"code":"invalid"`},
		},
		{
			name: "what a switch adds", method: "PUT", path: "/media/acc/z?session_id=%zz&hostname=a&hostname=b;c",
			body: "x", status: 201,
		},
		{
			name: "delete twice said", method: "DELETE", path: "/media/acc/z?hard=true&hard=false", status: 400,
			code: "bad_request",
		},
		{
			name: "delete misspelt", method: "DELETE", path: "/media/acc/z?hrad=true", status: 400,
			code: "bad_request", contains: []string{"hrad"},
		},
		{name: "deleted", method: "DELETE", path: "/media/acc/a/b%20c.wav", status: 204},
		{name: "deleted again", method: "DELETE", path: "/media/acc/a/b%20c.wav", status: 404, code: "not_found"},
	})
}

func TestDocuments(t *testing.T) {
	n := newNode(t, newFake())
	n.put(t, "/media/acc/moh/a.wav?language=en-us", "1")
	n.put(t, "/media/acc/moh/b.wav?language=de-de&prompt_id=hi", "2")
	n.put(t, "/media/acc/x%2520y", "3") // an id with a percent sign: "x%20y"
	const list = "/v1/accounts/acc/media"
	n.run(t, []scenario{
		{
			name: "list", method: "GET", path: list, status: 200,
			contains: []string{"moh/a.wav", "moh/b.wav", "x%20y"}, lacks: "next",
		},
		{
			name: "prefix", method: "GET", path: list + "?prefix=moh/", status: 200, contains: []string{"moh/a.wav"},
			lacks: "x%20y",
		},
		{
			name: "page", method: "GET", path: list + "?limit=1", status: 200,
			contains: []string{`"next":"moh/a.wav"`}, lacks: "b.wav",
		},
		{
			name: "next page", method: "GET", path: list + "?limit=1&after=moh/a.wav", status: 200,
			contains: []string{"b.wav"},
		},
		{
			name: "language", method: "GET", path: list + "?language=de-de&prompt=hi", status: 200,
			contains: []string{"b.wav"}, lacks: "a.wav",
		},
		{
			name: "none", method: "GET", path: "/v1/accounts/empty/media", status: 200,
			contains: []string{`"items":[]`},
		},
		{name: "limit 0", method: "GET", path: list + "?limit=0", status: 400, code: "bad_request"},
		{name: "limit much", method: "GET", path: list + "?limit=1001", status: 400, code: "bad_request"},
		{
			name: "unknown parameter", method: "GET", path: list + "?x-language=x", status: 400, code: "bad_request",
			contains: []string{"x-language"},
		},
		{name: "twice", method: "GET", path: list + "?limit=1&limit=2", status: 400, code: "bad_request"},
		{name: "bad escape", method: "GET", path: list + "?after=%zz", status: 400, code: "bad_request"},
		{name: "bad utf-8", method: "GET", path: list + "?after=%ff", status: 400, code: "bad_request"},
		{name: "bad account", method: "GET", path: "/v1/accounts/a%2Fb/media", status: 400, code: "bad_name"},

		{
			name: "document", method: "GET", path: list + "/moh%2Fa.wav", status: 200,
			contains: []string{`"id":"moh/a.wav"`},
		},
		{
			name: "document with slash", method: "GET", path: list + "/moh/a.wav", status: 200,
			contains: []string{`"id":"moh/a.wav"`},
		},
		{
			name: "document with percent", method: "GET", path: list + "/x%2520y", status: 200,
			contains: []string{`"id":"x%20y"`},
		},
		{name: "no document", method: "GET", path: list + "/nope", status: 404, code: "not_found"},
		{name: "bad id", method: "GET", path: list + "/a%2F..%2Fb", status: 400, code: "bad_name"},
		{name: "consistency", method: "GET", path: list + "/moh%2Fa.wav?consistency=local", status: 200},
		{
			name: "bad consistency", method: "GET", path: list + "/moh%2Fa.wav?consistency=maybe", status: 400,
			code: "bad_request",
		},

		{
			name: "patch", method: "PATCH", path: list + "/moh%2Fa.wav",
			headers: []string{"Content-Type: application/json; charset=utf-8"},
			body:    `{"name":"New","metadata":{"k":"v"}}`, status: 200,
			contains: []string{`"name":"New"`, `"k":"v"`},
		},
		{
			name: "misspelt", method: "PATCH", path: list + "/moh%2Fa.wav", body: `{"title":"x"}`, status: 400,
			code: "bad_request", contains: []string{`"fields":{"title":{"code":"unknown"`},
		},
		{
			name: "wrong type", method: "PATCH", path: list + "/moh%2Fa.wav", body: `{"name":7}`, status: 400,
			code: "bad_request", contains: []string{`"fields":{"name":{"code":"invalid"`, "of type number"},
		},
		{
			name: "no JSON", method: "PATCH", path: list + "/moh%2Fa.wav", body: `{"name":`, status: 400,
			code: "bad_request",
		},
		{
			name: "an array", method: "PATCH", path: list + "/moh%2Fa.wav", body: `[]`, status: 400,
			code: "bad_request",
		},
		{
			name: "null", method: "PATCH", path: list + "/moh%2Fa.wav", body: `null`, status: 400, code: "bad_request",
		},
		{name: "nothing", method: "PATCH", path: list + "/moh%2Fa.wav", status: 400, code: "bad_request"},
		{name: "two", method: "PATCH", path: list + "/moh%2Fa.wav", body: `{}{}`, status: 400, code: "bad_request"},
		{
			name: "not utf-8", method: "PATCH", path: list + "/moh%2Fa.wav", body: "{\"name\":\"\xff\"}", status: 400,
			code: "bad_request",
		},
		{
			name: "deep", method: "PATCH", path: list + "/moh%2Fa.wav", body: `{"name":` + strings.Repeat("[", 20_000),
			status: 400, code: "bad_request",
		},
		{
			name: "large", method: "PATCH", path: list + "/moh%2Fa.wav",
			body: `{"name":"` + strings.Repeat("x", 70_000) + `"}`, status: 413, code: "too_large",
		},
		{
			name: "a form", method: "PATCH", path: list + "/moh%2Fa.wav", body: `{}`,
			headers: []string{"Content-Type: text/plain"}, status: 415, code: "unsupported_media",
		},
		{
			name: "stale", method: "PATCH", path: list + "/moh%2Fa.wav", body: `{}`,
			headers: []string{`If-Match: "x"`}, status: 412, code: "precondition_failed",
		},
		{name: "delete", method: "DELETE", path: list + "/moh%2Fa.wav", status: 204},

		{
			name: "lookup", method: "GET", path: "/v1/lookup?name=moh/b.wav&account=acc", status: 200,
			contains: []string{"stream_url", "/play/t/"},
		},
		{
			name: "lookup none", method: "GET", path: "/v1/lookup?name=nope&account=acc", status: 404,
			code: "not_found",
		},
		{name: "lookup nothing", method: "GET", path: "/v1/lookup", status: 400, code: "bad_request"},
		{
			name: "lookup misspelt", method: "GET", path: "/v1/lookup?title=x", status: 400, code: "bad_request",
			contains: []string{"title"},
		},
	})
}

// The ticket's secret is in one answer only.
func TestRecordings(t *testing.T) {
	n := newNode(t, newFake())
	n.run(t, []scenario{
		{
			name: "create", method: "POST", path: "/v1/recordings",
			body: `{"account":"acc","name":"vm.mp3"}`, status: 201,
			contains: []string{
				`"record_url":"shout://u:t1cket-secret@127.0.0.1:8000/vm.mp3"`, `"state":"waiting"`,
				`"http":"http://node:8080/media/acc/vm.mp3"`, `"http_now":"http://node:8080/media/acc/vm.mp3?from=now"`,
				`"shout":"shout://node:8000/acc/vm.mp3"`,
			},
			wantHeader: "Location: /v1/recordings/rec0",
		},
		{
			name: "get", method: "GET", path: "/v1/recordings/rec0", status: 200, contains: []string{"play_urls"},
			lacks: "t1cket",
		},
		{
			name: "list", method: "GET", path: "/v1/recordings?account=acc", status: 200, contains: []string{`"rec0"`},
			lacks: "t1cket",
		},
		{
			name: "list none", method: "GET", path: "/v1/recordings?account=other", status: 200,
			contains: []string{`"items":[]`},
		},
		{
			name: "store early", method: "POST", path: "/v1/recordings/rec0/store", body: `{"account":"acc","id":"x"}`,
			status: 409, code: "wrong_state",
		},
		{
			name: "store badly", method: "POST", path: "/v1/recordings/rec0/store",
			body: `{"account":"acc","id":"../x"}`, status: 400, code: "bad_name",
		},
		{
			name: "store misspelt", method: "POST", path: "/v1/recordings/rec0/store", body: `{"acount":"acc"}`,
			status: 400, code: "bad_request", contains: []string{"acount"},
		},
		{name: "no account", method: "POST", path: "/v1/recordings", body: `{}`, status: 400, code: "bad_name"},
		{name: "unknown", method: "GET", path: "/v1/recordings/none", status: 404, code: "not_found"},
		{name: "unknown below", method: "POST", path: "/v1/recordings/a/b", status: 404, code: "not_found"},
		{
			name: "no such method", method: "PUT", path: "/v1/recordings", status: 405, code: "method_not_allowed",
			wantHeader: "Allow: GET, POST",
		},
		{
			name: "no such method of one", method: "DELETE", path: "/v1/recordings/rec0", status: 405,
			code: "method_not_allowed", wantHeader: "Allow: GET",
		},
		{name: "discard", method: "POST", path: "/v1/recordings/rec0/discard", status: 204},
		{
			name: "discard again", method: "POST", path: "/v1/recordings/rec0/discard", status: 404, code: "not_found",
		},
	})
	n.fake.fail = fmt.Errorf("too many: %w", library.ErrLimit)
	n.run(t, []scenario{
		{
			name: "limit", method: "POST", path: "/v1/recordings", body: `{"account":"acc"}`, status: 503,
			code: "limit", wantHeader: "Retry-After: 1",
		},
	})
}
