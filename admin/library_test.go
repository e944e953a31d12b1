package admin

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"carillon/audio"
	"carillon/blobstore"
	"carillon/library"
)

// newStored is the API on the real library and a store of its own.
func newStored(tb testing.TB) *node {
	tb.Helper()
	log := slog.New(slog.DiscardHandler)
	local, err := blobstore.OpenLocal(tb.TempDir(), log)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := local.Close(); err != nil {
			tb.Error(err)
		}
	})
	lib, err := library.Open(tb.Context(), library.Config{
		UploadBytesMax: uploadBytesMax, HTTPURL: "http://node:8080", ShoutHost: "node:8000",
		UndeleteWindow: time.Hour,
		Sources:        []library.SourceAccount{{User: "switch", Password: "s3cret", Account: "acc"}},
	}, library.Deps{
		NodeID: "node-1", Writer: local, Shelf: local, Catalog: local, Log: log, Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := lib.Close(); err != nil {
			tb.Error(err)
		}
	})
	return newNode(tb, lib)
}

func wav(tb testing.TB, d time.Duration) string {
	tb.Helper()
	var b bytes.Buffer
	if err := audio.WriteWAV(&b, audio.Sine(8000, 440, 0.5, d), 8000, 1); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

// The whole life of an item and of a ticket against the real library.
func TestStored(t *testing.T) {
	n := newStored(t)
	sound := wav(t, 2*time.Second)
	etag := `"` + sumOf(sound) + `"`
	const doc = "/v1/accounts/acc/media/a%2Fb.wav"
	n.run(t, []scenario{
		{
			name: "created", method: "PUT", path: "/media/acc/a/b.wav?name=N&prompt_id=hi&language=en-us", body: sound,
			headers: []string{"X-Carillon-Meta-K: v"}, status: 201, wantHeader: "ETag: " + etag,
			contains: []string{`"duration_ms":2000`, `"sample_rate":8000`, `"k":"v"`, `"media_source":"upload"`},
		},
		{
			name: "replaced", method: "PUT", path: "/media/acc/a/b.wav", body: sound, status: 200,
			contains: []string{`"name":"N"`},
		},
		{
			name: "exists", method: "PUT", path: "/media/acc/a/b.wav", body: sound,
			headers: []string{"If-None-Match: *"}, status: 412, code: "precondition_failed",
		},
		{
			name: "garbage", method: "PUT", path: "/media/acc/g", body: strings.Repeat("no sound ", 9000), status: 415,
			code: "unsupported_media",
		},
		{name: "empty", method: "PUT", path: "/media/acc/g", status: 415, code: "unsupported_media"},
		{
			name: "a form", method: "PUT", path: "/media/acc/g", body: sound,
			headers: []string{"Content-Type: text/html"}, status: 415, code: "unsupported_media",
		},
		{
			name: "bad language", method: "PUT", path: "/media/acc/g?language=%20", body: sound, status: 400,
			code: "bad_request",
		},
		{
			name: "list", method: "GET", path: "/v1/accounts/acc/media", status: 200, contains: []string{`"a/b.wav"`},
			lacks: `"g"`,
		},
		{
			name: "document", method: "GET", path: doc, status: 200, contains: []string{`"prompt_id":"hi"`},
		},
		{
			name: "patch", method: "PATCH", path: doc, body: `{"description":"D","metadata":{"k":""}}`, status: 200,
			contains: []string{`"D"`}, lacks: `"k"`,
		},
		{
			name: "patch stale", method: "PATCH", path: doc, body: `{}`, headers: []string{`If-Match: "x"`},
			status: 412, code: "precondition_failed",
		},
		{
			name: "patch none", method: "PATCH", path: "/v1/accounts/acc/media/none", body: `{}`, status: 404,
			code: "not_found",
		},
		{
			name: "lookup", method: "GET", path: "/v1/lookup?name=a/b.wav&account=acc", status: 200,
			contains: []string{"http://node:8080/play/"},
		},
		{
			name: "lookup none", method: "GET", path: "/v1/lookup?name=none&account=acc", status: 404,
			code: "not_found",
		},
		{
			name: "lookup stream", method: "GET", path: "/v1/lookup?name=a&stream=old", status: 400,
			code: "bad_request",
		},
		{
			name: "ticket", method: "POST", path: "/v1/recordings", body: `{"account":"acc","name":"vm"}`, status: 201,
			contains: []string{`"record_url":"shout://`, `@node:8000/vm.mp3"`},
		},
		{
			name: "bad ticket", method: "POST", path: "/v1/recordings", body: `{"account":"acc","name":"../x"}`,
			status: 400, code: "bad_name",
		},
		{
			name: "recordings", method: "GET", path: "/v1/recordings?account=acc", status: 200,
			contains: []string{`"waiting"`}, lacks: "record_url",
		},
		{name: "no recording", method: "GET", path: "/v1/recordings/0123", status: 404, code: "not_found"},
		{name: "deleted", method: "DELETE", path: "/media/acc/a/b.wav", status: 204},
		{name: "deleted again", method: "DELETE", path: "/media/acc/a/b.wav", status: 404, code: "not_found"},
	})
}

// Goal: the login that a switch has in its dialplan stores sound into its own
// account, and does nothing else.
func TestSourceLogin(t *testing.T) {
	t.Parallel()
	n := newStored(t)
	sound := wav(t, time.Second)
	basic := func(login string) string {
		return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(login))
	}
	own := basic("switch:s3cret")
	for _, c := range []struct {
		method, path, login string
		status              int
	}{
		{"PUT", "/media/acc/call.wav", own, 201},
		{"PUT", "/media/acc/call.wav", own, 200},
		{"POST", "/media/acc/call2.wav", own, 201},
		{"PUT", "/media/other/call.wav", own, 403},
		{"PUT", "/media/system/en-us/vm-hello", own, 403},
		{"PUT", "/media/acc%2F..%2Fother/call.wav", own, 403},
		{"PUT", "/media/acc/call.wav", basic("switch:wrong"), 401},
		{"PUT", "/media/acc/call.wav", basic("acc:s3cret"), 401},
		{"PUT", "/media/acc/call.wav", basic(":"), 401},
		{"PUT", "/media/acc/call.wav", "X-Nothing: x", 401},
		{"PUT", "/media/acc/call.wav", "Authorization: Bearer s3cret", 401},
		{"DELETE", "/media/acc/call.wav", own, 401},
		{"GET", "/v1/accounts/acc/media", own, 401},
		{"POST", "/v1/recordings", own, 401},
	} {
		if a := n.do(t, c.method, c.path, sound, c.login); a.status != c.status {
			t.Errorf("%s %s with %q: %d %s, want %d", c.method, c.path, c.login, a.status, a.body, c.status)
		}
	}
}

// Goal: of two who read a document and change it, the second is told.
func TestDocumentETag(t *testing.T) {
	t.Parallel()
	n := newStored(t)
	n.put(t, "/media/acc/a", wav(t, time.Second))
	const doc = "/v1/accounts/acc/media/a"
	read := n.do(t, "GET", doc, "", auth).header.Get("ETag")
	first := n.do(t, "PATCH", doc, `{"name":"M"}`, auth, "If-Match: "+read)
	if first.status != http.StatusOK || first.header.Get("ETag") == read {
		t.Errorf("first: %d, %s after %s", first.status, first.header.Get("ETag"), read)
	}
	if a := n.do(t, "PATCH", doc, `{"name":"L"}`, auth, "If-Match: "+read); a.status != 412 {
		t.Errorf("second: %d %s", a.status, a.body)
	}
	if now := n.do(t, "GET", doc, "", auth).header.Get("ETag"); now != first.header.Get("ETag") {
		t.Errorf("etag is %s, the patch said %s", now, first.header.Get("ETag"))
	}
}

// Broken uploads against the real library: the statuses, and nothing stored.
func TestStoredBrokenUploads(t *testing.T) {
	t.Parallel()
	n := newStored(t)
	sound := wav(t, 2*time.Second)
	n.put(t, "/media/acc/x", sound)
	head := "PUT /media/acc/x HTTP/1.1\r\nHost: x\r\n" + auth + "\r\n"
	for _, tt := range []struct {
		name    string
		close   bool
		request string
		status  int
		code    string
	}{
		{"half, then closed", true, head + "Content-Length: 100000\r\n\r\n" + sound[:500], 400, "incomplete"},
		{"half, then silent", false, head + "Content-Length: 100000\r\n\r\n" + sound[:500], 408, "timeout"},
		{
			"no last chunk", true, head + "Transfer-Encoding: chunked\r\n\r\n1f4\r\n" + sound[:500] + "\r\n",
			400, "incomplete",
		},
		{
			"chunks without end", false, head + "Transfer-Encoding: chunked\r\n\r\n1f4\r\n" + sound[:500] + "\r\n" +
				strings.Repeat("10000\r\n"+strings.Repeat("x", 1<<16)+"\r\n", 17), 413, "too_large",
		},
	} {
		if a := n.raw(t, tt.close, tt.request); a.status != tt.status || a.code() != tt.code {
			t.Errorf("%s: %d %s, want %d %s", tt.name, a.status, a.body, tt.status, tt.code)
		}
	}
	a := n.do(t, "GET", "/v1/accounts/acc/media/x", "", auth)
	if !strings.Contains(a.body, sumOf(sound)) {
		t.Errorf("the item was changed: %s", a.body)
	}
}

// What FreeSWITCH's two HTTP modules send when a call was recorded, header by
// header as measured (freeswitch-wire.md sections 4 and 5, transcripts
// hc-put-wav and ha-put-wav), is stored.
func TestFreeSWITCHUploads(t *testing.T) {
	t.Parallel()
	n := newStored(t)
	sound := wav(t, 2200*time.Millisecond)
	basic := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("fs:"+testToken)) + "\r\n"

	c, r := n.dial(t)
	_, _ = fmt.Fprintf(c, "PUT /media/acc/up.wav HTTP/1.1\r\nHost: %s\r\n%s"+
		"User-Agent: freeswitch-http-cache/1.0\r\nAccept: */*\r\nContent-Type: audio/x-wav\r\n"+
		"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n", n.addr, basic, len(sound))
	for _, want := range []string{"HTTP/1.1 100 Continue\r\n", "\r\n"} { // it sends nothing before that
		if line, err := r.ReadString('\n'); err != nil || line != want {
			t.Fatalf("got %q, %v, want %q", line, err, want)
		}
	}
	_, _ = io.WriteString(c, sound)
	n.wantStored(t, r, sound)

	c, r = n.dial(t)
	_, _ = fmt.Fprintf(c, "PUT /media/acc/up2.wav?session_id=3663f633&put_file=/tmp/3663f633_up.wav&"+
		"url=http%%3A//127.0.0.1%%3A18100/200/up.wav&file_driver=true&HTTAPI_SESSION_ID=3663f633&"+
		"hostname=HOST HTTP/1.1\r\nHost: %s\r\n%sUser-Agent: mod_httapi/1.0\r\nAccept: */*\r\n"+
		"Transfer-Encoding: chunked\r\nCookie: \r\n\r\n%x\r\n%s\r\n0\r\n\r\n",
		n.addr, basic, len(sound), sound)
	n.wantStored(t, r, sound)
}

func (n *node) dial(t *testing.T) (net.Conn, *bufio.Reader) {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(testWait))
	return c, bufio.NewReader(c)
}

func (n *node) wantStored(t *testing.T, r *bufio.Reader, sound string) {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusCreated || !strings.Contains(string(body), sumOf(sound)) {
		t.Errorf("answer %d %s, %v", resp.StatusCode, body, err)
	}
}

// What works on sound itself, against the real library.
func TestEdits(t *testing.T) {
	n := newStored(t)
	sound := wav(t, 2*time.Second)
	n.run(t, []scenario{
		{name: "put", method: "PUT", path: "/media/acc/a.wav", body: sound, status: 201},
		{
			name: "join", method: "POST", path: "/v1/media/join", status: 201,
			body: `{"to":{"account":"acc","id":"j"},"name":"J","parts":[{"account":"acc","id":"a.wav","from_ms":1500},
				{"tone_hz":440,"ms":500},{"account":"acc","id":"a.wav"}]}`,
			contains: []string{`"duration_ms":3000`, `"name":"J"`}, wantHeader: "Location: /media/acc/j",
		},
		{
			name: "trim", method: "POST", path: "/v1/media/trim", status: 200,
			body: `{"from":{"account":"acc","id":"j"},"to_ms":500}`, contains: []string{`"duration_ms":500`},
		},
		{
			name: "trim another", method: "POST", path: "/v1/media/trim", status: 412, code: "precondition_failed",
			headers: []string{`If-Match: "00"`}, body: `{"from":{"account":"acc","id":"j"},"to_ms":250}`,
		},
		{
			name: "trim nothing", method: "POST", path: "/v1/media/trim", status: 400, code: "bad_request",
			body: `{"from":{"account":"acc","id":"j"}}`,
		},
		{
			name: "silence", method: "GET",
			path:   "/v1/media/silence?account=acc&id=a.wav&threshold_db=-30&minimum_ms=10",
			status: 200, contains: []string{`"duration_ms":2000`, `"leading_ms":0`},
		},
		{
			name: "silence of nothing", method: "GET", path: "/v1/media/silence?account=acc&id=x", status: 404,
			code: "not_found",
		},
		{
			name: "no number", method: "GET", path: "/v1/media/silence?account=acc&id=a.wav&threshold_db=x",
			status: 400, code: "bad_request",
		},
		{
			name: "silence of no recording", method: "GET", path: "/v1/recordings/x/silence", status: 404,
			code: "not_found",
		},
	})
}
