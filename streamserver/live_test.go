package streamserver

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"carillon/audio/mpeg"
	"carillon/internal/web"
	"carillon/library"
)

// A recording in progress is followed from its start or from now, append by
// append, until the source ends.
func TestLive(t *testing.T) {
	t.Parallel()
	n := newNode(t, newFake(), web.Config{})
	rec, b := n.fake.record("acc", "vm.mp3")
	first := strings.Repeat("first ", 1000)
	b.grow([]byte(first))
	head := n.do(t, http.MethodHead, "/media/acc/vm.mp3")
	start := n.start(t, http.MethodGet, "/media/acc/vm.mp3")
	defer func() { _ = start.Body.Close() }()
	now := n.start(t, http.MethodGet, "/media/acc/vm.mp3?from=now")
	defer func() { _ = now.Body.Close() }()
	for _, h := range []http.Header{head.header, start.Header, now.Header} {
		if h.Get("ETag") != "" || h.Get("Cache-Control") != "no-store" || h.Get("Content-Type") != "audio/mpeg" {
			t.Errorf("headers of a live recording: %v", h)
		}
	}
	if head.status != http.StatusOK || start.StatusCode != http.StatusOK || start.ContentLength != -1 {
		t.Errorf("statuses %d %d, length %d", head.status, start.StatusCode, start.ContentLength)
	}
	mustRead(t, start.Body, first)
	mustRead(t, now.Body, first[len(first)-mpeg.FrameBytesMax:]) // there might be a frame in it
	for _, piece := range []string{"second ", "third "} {
		b.grow([]byte(piece)) // must arrive before the next one is there
		mustRead(t, start.Body, piece)
		mustRead(t, now.Body, piece)
	}
	n.fake.end(rec, library.StateTruncated)
	for _, resp := range []*http.Response{start, now} {
		if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
			t.Errorf("at the end: %q, %v", rest, err)
		}
	}
	waitFor(t, "the views to be closed", func() bool { return b.views() == 0 })
}

// mustRead reads exactly what is wanted.
func mustRead(t *testing.T, r io.Reader, want string) {
	t.Helper()
	buf := make([]byte, len(want))
	if _, err := io.ReadFull(r, buf); err != nil || string(buf) != want {
		t.Fatalf("got %q, %v, want %q", buf, err, want)
	}
}

// Ended and not yet stored, a recording is finite: it has a length, ranges
// and an ETag. Only the two starting points exist.
func TestEndedRecording(t *testing.T) {
	t.Parallel()
	n := newNode(t, newFake(), web.Config{})
	rec, b := n.fake.record("acc", "vm.mp3")
	b.grow([]byte("first second third"))
	n.fake.end(rec, library.StateTruncated)
	a := n.do(t, http.MethodGet, "/media/acc/vm.mp3", "Range: bytes=6-11")
	if a.status != http.StatusPartialContent || string(a.body) != "second" || a.header.Get("ETag") == "" ||
		a.header.Get("Cache-Control") != "no-cache" {
		t.Errorf("ended: %d %q %v", a.status, a.body, a.header)
	}
	if a := n.do(t, http.MethodGet, "/media/acc/vm.mp3?from=now"); a.status != http.StatusOK || len(a.body) > 0 {
		t.Errorf("from the end of it: %d %q", a.status, a.body)
	}
	if a := n.do(t, http.MethodGet, "/media/acc/vm.mp3?from=then"); a.status != 400 || len(a.body) > 0 {
		t.Errorf("from=then: %d %q", a.status, a.body)
	}
}

// A listener that hangs up while it waits for sound is let go.
func TestLiveListenerLeaves(t *testing.T) {
	t.Parallel()
	n := newNode(t, newFake(), web.Config{})
	_, b := n.fake.record("acc", "vm.mp3")
	resp := n.start(t, http.MethodGet, "/media/acc/vm.mp3")
	if resp.StatusCode != http.StatusOK || b.views() != 1 {
		t.Fatalf("status %d, %d views", resp.StatusCode, b.views())
	}
	_ = resp.Body.Close()
	waitFor(t, "the view to be closed", func() bool { return b.views() == 0 })
}
