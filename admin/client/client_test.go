package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"carillon/admin/client"
	"carillon/blobstore"
	"carillon/library"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open makes a server of the handler and a client of it.
func open(t *testing.T, h http.HandlerFunc) *client.Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	c, err := client.New(srv.URL+"/", "t0ken")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// fault answers with the error of a library sentinel, as the server does.
func fault(w http.ResponseWriter, err error) {
	f := library.FaultOf(err)
	w.WriteHeader(f.Status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"error": map[string]string{"code": f.Code, "message": err.Error(), "request_id": "r1"},
	})
}

// Every sentinel survives the way over HTTP, so errors.Is means the same on
// both sides.
func TestSentinels(t *testing.T) {
	t.Parallel()
	for _, want := range []error{
		library.ErrNotFound, library.ErrBadName, library.ErrBadRequest, library.ErrUnsupportedMedia,
		library.ErrTooLarge, library.ErrIncomplete, library.ErrPrecondition, library.ErrUnauthorized,
		library.ErrTicketUsed, library.ErrMountInUse, library.ErrState, library.ErrExpired, library.ErrBadToken,
		library.ErrLimit, library.ErrUnavailable, blobstore.ErrConflict, blobstore.ErrNoSpace, blobstore.ErrCorrupt,
	} {
		c := open(t, func(w http.ResponseWriter, _ *http.Request) { fault(w, want) })
		_, err := c.Info(t.Context(), "acc", "x")
		var answer *client.Error
		if !errors.Is(err, want) || !errors.As(err, &answer) || answer.RequestID != "r1" {
			t.Errorf("%v became %v", want, err)
		}
	}
	// Playback answers have a status only.
	for status, want := range map[int]error{
		404: library.ErrNotFound, 403: library.ErrUnauthorized, 503: library.ErrUnavailable,
	} {
		c := open(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		if _, err := c.GetMedia(t.Context(), "acc", "x", io.Discard, nil); !errors.Is(err, want) {
			t.Errorf("%d became %v, want %v", status, err, want)
		}
	}
}

// Get checks what came against length and digest.
func TestGetMedia(t *testing.T) {
	t.Parallel()
	const sum = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" // of "hello"
	c := open(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t0ken" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		switch r.URL.Path {
		case "/media/acc/a b/c%":
			w.Header().Set("ETag", `"`+sum+`"`)
			_, _ = io.WriteString(w, "hello")
		case "/media/acc/wrong":
			w.Header().Set("ETag", `"`+sum+`"`)
			_, _ = io.WriteString(w, "jello")
		case "/media/acc/short":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "hello")
		}
	})
	var got bytes.Buffer
	var done, total int64
	n, err := c.GetMedia(t.Context(), "acc", "a b/c%", &got, func(d, of int64) { done, total = d, of })
	if err != nil || n != 5 || got.String() != "hello" || done != 5 || total != 5 {
		t.Errorf("got %d %q, %v; progress %d of %d", n, &got, err, done, total)
	}
	_, err = c.GetMedia(t.Context(), "acc", "wrong", io.Discard, nil)
	if !errors.Is(err, blobstore.ErrCorrupt) {
		t.Errorf("wrong bytes: %v", err)
	}
	if _, err := c.GetMedia(t.Context(), "acc", "short", io.Discard, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short body: %v", err)
	}
}

// Put sends what the options say, with or without a known size.
func TestPutMedia(t *testing.T) {
	t.Parallel()
	var seen *http.Request
	var body []byte
	c := open(t, func(w http.ResponseWriter, r *http.Request) {
		seen = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"id":"x","a_field_of_the_future":1}`)
	})
	opts := library.PutOptions{
		ContentType: "audio/mpeg", IfNoneMatch: "*", Name: "A & B", Language: "en-us", Prompt: "hi",
		Metadata: map[string]string{"caller": "Jörg"},
	}
	for _, size := range []int64{5, -1} {
		var done int64
		doc, created, err := c.PutMedia(t.Context(), "acc", "a/b c", strings.NewReader("hello"), size, opts,
			func(d, _ int64) { done = d })
		if err != nil || !created || doc.ID != "x" || done != 5 || string(body) != "hello" {
			t.Fatalf("size %d: %v %v %v, progress %d, body %q", size, doc.ID, created, err, done, body)
		}
		if seen.ContentLength != size || seen.URL.Path != "/media/acc/a/b c" {
			t.Errorf("size %d: length %d, path %s", size, seen.ContentLength, seen.URL.Path)
		}
		q := seen.URL.Query()
		if q.Get("name") != "A & B" || q.Get("language") != "en-us" || q.Get("prompt_id") != "hi" ||
			seen.Header.Get("If-None-Match") != "*" || seen.Header.Get("X-Carillon-Meta-Caller") != "J%C3%B6rg" {
			t.Errorf("query %v, headers %v", q, seen.Header)
		}
	}
	_, _, err := c.PutMedia(t.Context(), "acc", "e", strings.NewReader(""), 0, opts, nil)
	if err != nil || seen.ContentLength != 0 {
		t.Errorf("empty: length %d, %v", seen.ContentLength, err)
	}
}

// A listing goes on from page to page, and stops when the caller does.
func TestListMedia(t *testing.T) {
	t.Parallel()
	pages := 0
	c := open(t, func(w http.ResponseWriter, r *http.Request) {
		pages++
		if r.URL.Query().Get("prefix") != "p" || r.URL.EscapedPath() != "/v1/accounts/a%2Fc/media" {
			fault(w, library.ErrBadRequest)
			return
		}
		switch r.URL.Query().Get("after") {
		case "":
			_, _ = io.WriteString(w, `{"items":[{"id":"p1"},{"id":"p2"}],"next":"p2"}`)
		case "p2":
			_, _ = io.WriteString(w, `{"items":[{"id":"p3"}],"next":"p3"}`)
		default:
			fault(w, library.ErrUnavailable)
		}
	})
	var ids []string
	var last error
	for doc, err := range c.ListMedia(t.Context(), "a/c", library.ListQuery{Prefix: "p"}) {
		if err != nil {
			last = err
			break
		}
		ids = append(ids, doc.ID)
	}
	if strings.Join(ids, " ") != "p1 p2 p3" || !errors.Is(last, library.ErrUnavailable) {
		t.Errorf("got %v, %v", ids, last)
	}
	pages = 0
	for doc, err := range c.ListMedia(t.Context(), "a/c", library.ListQuery{Prefix: "p"}) {
		if doc.ID != "p1" || err != nil {
			t.Errorf("first document %s, %v", doc.ID, err)
		}
		break
	}
	if pages != 1 {
		t.Errorf("%d pages were asked for after the caller stopped", pages)
	}
}

// The rest of the calls: paths, bodies and answers.
func TestCalls(t *testing.T) {
	t.Parallel()
	c := open(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.Method + " " + r.URL.EscapedPath() + " " + string(body) {
		case `PATCH /v1/accounts/acc/media/a%2Fb {"name":"","prompt_id":"p"}`, "GET /v1/accounts/acc/media/a%2Fb ":
			_, _ = io.WriteString(w, `{"id":"a/b"}`)
		case "DELETE /media/acc/a/b ", "POST /v1/recordings/r1/discard ":
			w.WriteHeader(http.StatusNoContent)
		case "GET /v1/lookup ":
			_, _ = io.WriteString(w, `{"stream_url":"`+r.URL.RawQuery+`"}`)
		case "GET /v1/recordings/r1 ":
			_, _ = io.WriteString(w, `{"id":"r1","state":"live","play_urls":{"http":"h"}}`)
		case `POST /v1/recordings/r1/store {"account":"acc","id":"x"}`:
			_, _ = io.WriteString(w, `{"id":"x"}`)
		case "GET /v1/recordings ":
			_, _ = io.WriteString(w, `{"items":[{"id":"r1"}],"next":"r1"}`)
		case "GET /v1/cluster ":
			_, _ = io.WriteString(w, `{"nodes":3}`)
		case "GET /v1/version ":
			_, _ = io.WriteString(w, `{"version":"1"}`)
		case "GET /healthz ":
			_, _ = io.WriteString(w, `{"status":"ok"}`)
		case "GET /readyz ":
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"status":"starting","reason":"catching up"}`)
		default:
			if r.Method == http.MethodPost && r.URL.Path == "/v1/recordings" {
				w.WriteHeader(http.StatusCreated)
				_, _ = io.WriteString(w, `{"id":"r1","record_url":"shout://u:t@h/n"}`)
				return
			}
			t.Errorf("unexpected %s %s %s", r.Method, r.URL.EscapedPath(), body)
			w.WriteHeader(http.StatusTeapot)
		}
	})
	ctx := t.Context()
	empty, prompt := "", "p"
	check := func(what string, err error, ok bool) {
		t.Helper()
		if err != nil || !ok {
			t.Errorf("%s: %v, %v", what, err, ok)
		}
	}
	doc, err := c.Update(ctx, "acc", "a/b", library.Patch{Name: &empty, Prompt: &prompt})
	check("update", err, doc.ID == "a/b")
	doc, err = c.Info(ctx, "acc", "a/b")
	check("info", err, doc.ID == "a/b")
	check("remove", c.Remove(ctx, "acc", "a/b"), true)
	found, err := c.Lookup(ctx, library.LookupRequest{Name: "n", Consistency: library.Local})
	check("lookup", err, found.StreamURL == "consistency=local&name=n")
	rec, err := c.CreateRecording(ctx, library.RecordingRequest{Account: "acc"})
	check("create recording", err, rec.RecordURL == "shout://u:t@h/n")
	rec, err = c.Recording(ctx, "r1")
	check("recording", err, rec.State == library.StateLive && rec.PlayURLs.HTTP == "h")
	recs, next, err := c.Recordings(ctx, "", "", 0)
	check("recordings", err, len(recs) == 1 && next == "r1")
	doc, err = c.Store(ctx, "r1", "acc", "x")
	check("store", err, doc.ID == "x")
	check("discard", c.Discard(ctx, "r1"), true)
	var status struct{ Nodes int }
	raw, err := c.ClusterStatus(ctx, &status)
	check("cluster", err, status.Nodes == 3 && string(raw) == `{"nodes":3}`)
	v, err := c.Version(ctx)
	check("version", err, v.Version == "1")
	check("alive", c.Alive(ctx), true)
	err = c.Health(ctx)
	if !errors.Is(err, library.ErrUnavailable) || !strings.Contains(err.Error(), "catching up") {
		t.Errorf("health: %v", err)
	}
}

// The token goes to no host but the one that was named, and into no text.
func TestTokenIsKept(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("redirect was followed with %v", r.Header)
	}))
	defer other.Close()
	c := open(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusFound)
	})
	if _, err := c.Info(t.Context(), "acc", "x"); err == nil || strings.Contains(err.Error(), "t0ken") {
		t.Errorf("redirect: %v", err)
	}
	if strings.Contains(c.String(), "t0ken") {
		t.Errorf("client prints as %s", c)
	}
}

// The context ends a call that gets no answer; a dead port is an error at
// once; a bad address is one before.
func TestFaults(t *testing.T) {
	t.Parallel()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(ln.Addr().String(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := c.Alive(ctx); !errors.Is(err, context.DeadlineExceeded) { // nobody accepts
		t.Errorf("no answer: %v", err)
	}
	_ = ln.Close()
	if err := c.Alive(t.Context()); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("dead port: %v", err)
	}
	for _, bad := range []string{"", "ftp://x", "http://", "http://a b"} {
		if c, err := client.New(bad, ""); err == nil {
			t.Errorf("%q became %s", bad, c)
		}
	}
}
