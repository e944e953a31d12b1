package streamserver

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"carillon/audio"
	"carillon/blobstore"
	"carillon/internal/audience"
	"carillon/internal/web"
	"carillon/library"
)

const (
	testToken = "t0ken-of-the-test"
	// testWait bounds every wait of a test; nothing here takes a tenth of it.
	testWait = 10 * time.Second
	// testBurst: listeners of what goes on are not held.
	testBurst = time.Nanosecond
)

// node is the player over real TCP, on a fake library.
type node struct {
	fake   *fakeLibrary
	server *Server
	url    string
	addr   string
	allow  atomic.Bool
}

func newNode(tb testing.TB, lib Library, cfg web.Config) *node {
	tb.Helper()
	n := &node{}
	n.fake, _ = lib.(*fakeLibrary)
	n.allow.Store(true)
	log := slog.New(slog.DiscardHandler)
	crowd, err := audience.Open(audience.Config{Period: 20 * time.Millisecond, MountListenersMax: 20}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = crowd.Close() })
	n.server, err = New(Deps{
		Library: lib, Audience: crowd, Burst: testBurst, Stall: cfg.WriteStall, Tokens: web.NewTokens(testToken),
		Allow: func(netip.Addr) bool { return n.allow.Load() },
		Log:   log, Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		tb.Fatal(err)
	}
	e := web.New(log)
	n.server.Routes(e)
	cfg.Addr = "127.0.0.1:0"
	srv, err := web.Open(cfg, web.Deps{Handler: e, Log: log})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := srv.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
		// A handler whose connection was taken over is not waited for.
		left := func() float64 { return testutil.ToFloat64(n.server.metrics.active) }
		for giveUp := time.After(10 * time.Second); left() != 0; {
			select {
			case <-giveUp:
				tb.Errorf("%v players are left", left())
				return
			case <-time.After(time.Millisecond):
			}
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
	length int64
	body   []byte
}

func (n *node) do(t *testing.T, method, path string, headers ...string) answer {
	t.Helper()
	resp := n.start(t, method, path, headers...)
	b, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, resp.ContentLength, b}
}

// start sends a request and leaves the body to the caller.
func (n *node) start(t *testing.T, method, path string, headers ...string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testWait)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, n.url+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	tr := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp
}

func sound(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}

// What a player sees of a stored item, byte by byte and header by header;
// HEAD says the same as GET.
func TestItem(t *testing.T) {
	n := newNode(t, newFake(), web.Config{})
	data := sound(300_000)
	doc := n.fake.store("moh/jazz x.mp3", audio.FormatMP3, data)
	etag, date := doc.ETag(), "Wed, 04 Mar 2026 05:06:07 GMT"
	const path = "/media/acc/moh/jazz%20x.mp3"
	tests := []struct {
		name    string
		headers []string
		status  int
		want    []byte
		ranged  string // Content-Range
	}{
		{"whole", nil, 200, data, ""},
		{"start", []string{"Range: bytes=0-99"}, 206, data[:100], "bytes 0-99/300000"},
		{"middle", []string{"Range: bytes=99-199"}, 206, data[99:200], "bytes 99-199/300000"},
		{"blocks", []string{"Range: bytes=100000-199999"}, 206, data[1e5:2e5], "bytes 100000-199999/300000"},
		{"open end", []string{"Range: bytes=299999-"}, 206, data[299_999:], "bytes 299999-299999/300000"},
		{"tail", []string{"Range: bytes=-10"}, 206, data[299_990:], "bytes 299990-299999/300000"},
		{"long tail", []string{"Range: bytes=-999999999"}, 206, data, "bytes 0-299999/300000"},
		{"beyond", []string{"Range: bytes=10-9999999999999999999"}, 206, data[10:], "bytes 10-299999/300000"},
		{"several", []string{"Range: bytes=0-1,5-6"}, 200, data, ""},
		{"malformed", []string{"Range: bytes=5-1"}, 200, data, ""},
		{"other unit", []string{"Range: frames=0-1"}, 200, data, ""},
		{"past", []string{"Range: bytes=300000-"}, 416, nil, "bytes */300000"},
		{"no tail", []string{"Range: bytes=-0"}, 416, nil, "bytes */300000"},
		{"if-range same", []string{"Range: bytes=0-1", "If-Range: " + etag}, 206, data[:2], "bytes 0-1/300000"},
		{"if-range date", []string{"Range: bytes=0-1", "If-Range: " + date}, 206, data[:2], "bytes 0-1/300000"},
		{"if-range other", []string{"Range: bytes=0-1", `If-Range: "x"`}, 200, data, ""},
		{"if-range weak", []string{"Range: bytes=0-1", "If-Range: W/" + etag}, 200, data, ""},
		{"known", []string{"If-None-Match: " + etag}, 304, nil, ""},
		{"known among others", []string{`If-None-Match: "x", W/` + etag}, 304, nil, ""},
		{"any", []string{"If-None-Match: *"}, 304, nil, ""},
		{"known beats range", []string{"If-None-Match: " + etag, "Range: bytes=0-1"}, 304, nil, ""},
		{"unknown", []string{`If-None-Match: "x"`, "If-Modified-Since: " + date}, 200, data, ""},
		{"not modified", []string{"If-Modified-Since: " + date}, 304, nil, ""},
		{"modified", []string{"If-Modified-Since: Wed, 04 Mar 2026 05:06:06 GMT"}, 200, data, ""},
		{"if-match", []string{"If-Match: " + etag}, 200, data, ""},
		{"if-match other", []string{`If-Match: "x"`}, 412, nil, ""},
		{"unmodified since", []string{"If-Unmodified-Since: Wed, 04 Mar 2026 05:06:06 GMT"}, 412, nil, ""},
		{"bad date", []string{"If-Modified-Since: yesterday"}, 200, data, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			get, head := n.do(t, http.MethodGet, path, tt.headers...), n.do(t, http.MethodHead, path, tt.headers...)
			if get.status != tt.status || !bytes.Equal(get.body, tt.want) {
				t.Fatalf("status %d and %d bytes, want %d and %d", get.status, len(get.body), tt.status, len(tt.want))
			}
			if got := get.header.Get("Content-Range"); got != tt.ranged {
				t.Errorf("content-range %q, want %q", got, tt.ranged)
			}
			for _, h := range []http.Header{get.header, head.header} {
				h.Del("Date")
				h.Del("X-Request-Id")
			}
			diff := cmp.Diff(get.header, head.header)
			if diff != "" || head.status != get.status || len(head.body) > 0 {
				t.Errorf("head differs from get, status %d: %s", head.status, diff)
			}
			if tt.status/100 == 4 {
				return
			}
			want := map[string]string{
				"ETag": etag, "Last-Modified": date, "Accept-Ranges": "bytes",
				"Cache-Control": "max-age=60, must-revalidate",
			}
			if tt.status/100 == 2 {
				want["Content-Type"], want["Content-Length"] = "audio/mpeg", strconv.Itoa(len(tt.want))
			}
			for name, v := range want {
				if got := get.header.Get(name); got != v {
					t.Errorf("%s is %q, want %q", name, got, v)
				}
			}
		})
	}
}

// Names, forms and who may play; errors have the right status and an empty
// body.
func TestMediaRequests(t *testing.T) {
	t.Parallel()
	n := newNode(t, newFake(), web.Config{})
	data := sound(1000)
	n.fake.store("greeting", audio.FormatWAV, data)
	n.fake.store("a b/ü%.mp3", audio.FormatMP3, data)
	n.fake.store("both", audio.FormatMP3, data)
	n.fake.store("both.wav", audio.FormatWAV, data)
	long := strings.Repeat("x", 10_000)
	auth := "Authorization: Bearer " + testToken
	tests := []struct {
		path    string
		headers []string
		deny    bool
		status  int
	}{
		{path: "/media/acc/greeting", status: 200},
		{path: "/media/acc/greeting.wav", status: 200},
		{path: "/media/acc/greeting.mp3", status: 406},
		{path: "/media/acc/greeting.raw", status: 406},
		{path: "/media/acc/greeting.txt", status: 404},
		{path: "/media/acc/both.wav", status: 200},
		{path: "/media/acc/a%20b/%C3%BC%25.mp3", status: 200},
		{path: "/media/acc/a%20b%2F%C3%BC%25.mp3", status: 200},
		{path: "/media/acc/greeting?x=y&session_id=1", status: 200},
		{path: "/media/acc/greeting?consistency=local", status: 200},
		{path: "/media/acc/greeting?consistency=never", status: 400},
		{path: "/media/acc/nope", status: 404},
		{path: "/media/acc/nope.wav", status: 404},
		{path: "/media/other/greeting", status: 404},
		{path: "/media/acc/", status: 400},
		{path: "/media/acc", status: 404},
		{path: "/media/acc/../acc/greeting", status: 400},
		{path: "/media/acc/%2e%2e/greeting", status: 400},
		{path: "/media/%2e%2e/greeting", status: 400},
		{path: "/media/acc/a%00", status: 400},
		{path: "/media/acc/a%ff", status: 400},
		{path: "/media/acc/" + long, status: 400},
		{path: "/media/" + long + "/x", status: 400},
		{path: "/media/acc/greeting", deny: true, status: 403},
		{path: "/media/acc/nope", deny: true, status: 403},
		{path: "/media/acc/greeting", headers: []string{auth}, deny: true, status: 200},
		{path: "/media/acc/greeting", headers: []string{"Authorization: Bearer x"}, deny: true, status: 403},
		{path: "/media/acc/greeting", headers: []string{"X-Forwarded-For: 127.0.0.1"}, deny: true, status: 403},
	}
	for _, tt := range tests {
		n.allow.Store(!tt.deny)
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			a := n.do(t, method, tt.path, tt.headers...)
			if a.status != tt.status {
				t.Errorf("%s %.60s deny=%v: %d, want %d", method, tt.path, tt.deny, a.status, tt.status)
			}
			if a.status >= 400 && (len(a.body) > 0 || a.length > 0) {
				t.Errorf("%s %.60s: body %q", method, tt.path, a.body)
			}
		}
	}
	n.fake.fail = library.ErrUnavailable
	n.allow.Store(true)
	if a := n.do(t, http.MethodGet, "/media/acc/greeting"); a.status != 503 || len(a.body) > 0 {
		t.Errorf("no leader: %d %q", a.status, a.body)
	}
}

// A playback token is all the permission needed, for its own item only.
func TestPlayToken(t *testing.T) {
	t.Parallel()
	n := newNode(t, newFake(), web.Config{})
	n.allow.Store(false)
	n.fake.tokens["good"] = n.fake.store("moh/a", audio.FormatMP3, sound(500))
	for path, status := range map[string]int{
		"/play/good/moh/a.mp3":    200,
		"/play/good/moh/a":        200,
		"/play/good/moh%2Fa.mp3":  200,
		"/play/good/moh/a.wav":    406,
		"/play/good/moh/b.mp3":    404,
		"/play/good/a.mp3":        404,
		"/play/expired/moh/a.mp3": 410,
		"/play/forged/moh/a.mp3":  403,
		"/play/none/moh/a.mp3":    404,
		"/play/good":              404,
	} {
		a := n.do(t, http.MethodGet, path)
		if a.status != status || status != 200 && len(a.body) > 0 {
			t.Errorf("%s: %d %q, want %d", path, a.status, a.body, status)
		}
		if status == 200 && !strings.Contains(a.header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: cache-control %q", path, a.header.Get("Cache-Control"))
		}
	}
}

// What cannot be read is an error answer if nothing was sent yet, and a
// broken transfer if something was; never a short sound that looks whole.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	n := newNode(t, newFake(), web.Config{})
	doc := n.fake.store("x", audio.FormatMP3, sound(500_000))
	b := n.fake.blobs[doc.Blob]
	b.fail = blobstore.ErrCorrupt
	a := n.do(t, http.MethodGet, "/media/acc/x")
	if a.status != 500 || len(a.body) > 0 || a.header.Get("ETag") != "" {
		t.Errorf("corrupt from the start: %d, %d bytes, %v", a.status, len(a.body), a.header)
	}
	b.mu.Lock()
	b.failAt = 200_000
	b.mu.Unlock()
	resp := n.start(t, http.MethodGet, "/media/acc/x")
	got, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK || err == nil {
		t.Errorf("corrupt in the middle: %d, %d bytes, err %v", resp.StatusCode, len(got), err)
	}
	delete(n.fake.blobs, doc.Blob)
	if a := n.do(t, http.MethodGet, "/media/acc/x"); a.status != 404 || len(a.body) > 0 {
		t.Errorf("blob is gone: %d %q", a.status, a.body)
	}
}

// A client that never reads is let go after the stall time.
func TestStalledReader(t *testing.T) {
	t.Parallel()
	n := newNode(t, newFake(), web.Config{WriteStall: 300 * time.Millisecond})
	doc := n.fake.store("x", audio.FormatMP3, sound(16<<20)) // more than the kernel's buffers take
	b := n.fake.blobs[doc.Blob]
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "GET /media/acc/x HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the first view", func() bool { return b.views() == 1 })
	waitFor(t, "the stalled view to be closed", func() bool { return b.views() == 0 })
}

// Who reads slowly is handed over, and gets the whole or the part that he asked
// for all the same.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	const start, end = 100, 12<<20 + 7
	n := newNode(t, newFake(), web.Config{})
	body := sound(16 << 20)
	doc := n.fake.store("x", audio.FormatMP3, body)
	b := n.fake.blobs[doc.Blob]
	answered := make(map[int]float64)
	for _, c := range []struct {
		headers   []string
		want      []byte
		converted bool
	}{
		{nil, body, false},
		{[]string{"Range: bytes=" + strconv.Itoa(start) + "-" + strconv.Itoa(end-1)}, body[start:end], false},
		{nil, body, true},
	} {
		n.fake.converted.Store(c.converted)
		resp := n.start(t, http.MethodGet, "/media/acc/x", c.headers...)
		requests := n.server.metrics.requests(resp.StatusCode)
		before := answered[resp.StatusCode]
		waitFor(t, "the request to be over", func() bool { // and one view is the listener's
			return testutil.ToFloat64(requests) == before+1 && b.views() == 1
		})
		answered[resp.StatusCode]++
		got, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%s: %d bytes of %d, %v", resp.Status, len(got), len(c.want), err)
		}
		waitFor(t, "the view to be closed", func() bool { return b.views() == 0 })
	}
	sent := float64(2*len(body) + end - start)
	if got := testutil.ToFloat64(n.server.metrics.bytes); got != sent {
		t.Errorf("counted %v bytes, want %v", got, sent)
	}
}

// Who replaces an item does not disturb who is playing it.
func TestReplaceWhilePlaying(t *testing.T) {
	t.Parallel()
	n := newNode(t, newFake(), web.Config{})
	old := sound(16 << 20) // more than the kernel's buffers take
	n.fake.store("x", audio.FormatMP3, old)
	resp := n.start(t, http.MethodGet, "/media/acc/x")
	n.fake.store("x", audio.FormatMP3, sound(10))
	got, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil || !bytes.Equal(got, old) {
		t.Errorf("reader of the old bytes got %d of %d, %v", len(got), len(old), err)
	}
	if a := n.do(t, http.MethodGet, "/media/acc/x"); len(a.body) != 10 {
		t.Errorf("next reader got %d bytes", len(a.body))
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(testWait)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// Curl is a player: whole, a part, resumed, and the bytes are the same.
func TestCurlPlays(t *testing.T) {
	t.Parallel()
	n := newNode(t, newFake(), web.Config{})
	data := sound(200_000)
	n.fake.store("x.mp3", audio.FormatMP3, data)
	for args, want := range map[string][]byte{
		"":                data,
		"-r 1000-1999":    data[1000:2000],
		"-C 150000":       data[150_000:],
		"--http1.0":       data,
		"-H Range:bytes=": data,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), testWait)
		argv := append([]string{"-sf", n.url + "/media/acc/x.mp3"}, strings.Fields(args)...)
		out, err := exec.CommandContext(ctx, "curl", argv...).Output()
		cancel()
		if err != nil || !bytes.Equal(out, want) {
			t.Errorf("curl %s: %d bytes, want %d, %v", args, len(out), len(want), err)
		}
	}
}

// Many requests on one connection, pipelined even, are answered in order.
func TestKeepAlive(t *testing.T) {
	t.Parallel()
	n := newNode(t, newFake(), web.Config{})
	data := sound(70_000)
	n.fake.store("x", audio.FormatMP3, data)
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(testWait))
	const count = 20
	go func() {
		_, _ = io.WriteString(c, strings.Repeat("GET /media/acc/x HTTP/1.1\r\nHost: x\r\n\r\n", count))
	}()
	r := bufio.NewReader(c)
	for i := range count {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("response %d: %v", i, err)
		}
		got, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("response %d: %d bytes, %v", i, len(got), err)
		}
	}
	want := float64(count * len(data))
	if v := testutil.ToFloat64(n.server.metrics.bytes); v != want {
		t.Errorf("%v bytes counted, want %v", v, want)
	}
	if v := testutil.ToFloat64(n.server.metrics.requests(200)); v != count {
		t.Errorf("%v requests counted", v)
	}
}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}
