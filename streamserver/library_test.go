package streamserver

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"carillon/audio"
	"carillon/audio/layer3"
	"carillon/blobstore"
	"carillon/internal/web"
	"carillon/library"
)

// openLibrary is the real library on a store of its own.
func openLibrary(tb testing.TB) *library.Library {
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
		HTTPURL: "http://127.0.0.1:8080", ShoutHost: "127.0.0.1:8000",
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
	return lib
}

// wav is a WAV file of about size bytes.
func wav(tb testing.TB, size int) []byte {
	tb.Helper()
	const rate = 8000
	var b bytes.Buffer
	pcm := audio.Sine(rate, 440, 0.5, time.Duration(size/2)*time.Second/rate)
	if err := audio.WriteWAV(&b, pcm, rate, 1); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// store puts an item of account "acc".
func store(tb testing.TB, lib *library.Library, id string, data []byte) library.Document {
	tb.Helper()
	doc, _, err := lib.Put(tb.Context(), "acc", id, bytes.NewReader(data), library.PutOptions{Length: -1})
	if err != nil {
		tb.Fatal(err)
	}
	return doc
}

// The real library behind the real server: what was stored comes out of
// /media and of the /play URL of a lookup, and what is pinned there is gone
// when it was replaced.
func TestStoredItem(t *testing.T) {
	t.Parallel()
	lib := openLibrary(t)
	n := newNode(t, lib, web.Config{})
	data := wav(t, 700_000)
	doc := store(t, lib, "greet ing", data)
	found, err := lib.Lookup(t.Context(), library.LookupRequest{Name: "greet ing", Account: "acc"})
	if err != nil {
		t.Fatal(err)
	}
	playPath := strings.TrimPrefix(found.StreamURL, "http://127.0.0.1:8080")
	for _, path := range []string{"/media/acc/greet%20ing", "/media/acc/greet%20ing.wav", playPath} {
		a := n.do(t, http.MethodGet, path)
		if a.status != 200 || !bytes.Equal(a.body, data) || a.header.Get("ETag") != doc.ETag() ||
			a.header.Get("Content-Type") != "audio/x-wav" {
			t.Errorf("%s: %d, %d of %d bytes, %v", path, a.status, len(a.body), len(data), a.header)
		}
		a = n.do(t, http.MethodGet, path, "Range: bytes=300000-599999")
		if a.status != 206 || !bytes.Equal(a.body, data[300_000:600_000]) {
			t.Errorf("%s: part: %d, %d bytes", path, a.status, len(a.body))
		}
	}
	for path, status := range map[string]int{
		"/media/acc/nope": 404, "/media/acc/a%00": 400, "/media/-/x": 400,
		"/play/x/greet%20ing.wav": 403, playPath[:len(playPath)-1]: 404,
	} {
		if a := n.do(t, http.MethodGet, path); a.status != status || len(a.body) > 0 {
			t.Errorf("%s: %d %q, want %d", path, a.status, a.body, status)
		}
	}
	store(t, lib, "greet ing", wav(t, 1000))
	if a := n.do(t, http.MethodGet, playPath); a.status != http.StatusGone || len(a.body) > 0 {
		t.Errorf("replaced: %d %q", a.status, a.body)
	}
}

// A recording is played while it is made, when it has ended, and when it is
// stored, and it is the same sound each time.
func TestRecording(t *testing.T) {
	t.Parallel()
	lib := openLibrary(t)
	n := newNode(t, lib, web.Config{})
	ctx := t.Context()
	rec, err := lib.CreateRecording(ctx, library.RecordingRequest{Account: "acc", Name: "vm.mp3"})
	if err != nil {
		t.Fatal(err)
	}
	if a := n.do(t, http.MethodGet, "/media/acc/vm.mp3"); a.status != 404 {
		t.Errorf("before the source came: %d", a.status)
	}
	session := claim(t, lib, rec)
	mp3, err := layer3.Encode(audio.Sine(8000, 440, 0.5, 5*time.Second), 8000, 16_000)
	if err != nil {
		t.Fatal(err)
	}
	half := len(mp3) / 2
	write := func(p []byte) {
		t.Helper()
		if _, err := session.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	write(mp3[:half])
	resp := n.start(t, http.MethodGet, "/media/acc/vm.mp3")
	got := make([]byte, half)
	if _, err := io.ReadFull(resp.Body, got); err != nil || !bytes.Equal(got, mp3[:half]) {
		t.Fatalf("live: %v", err)
	}
	write(mp3[half:])
	if err := session.Close(ctx, library.EndedClean); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || !bytes.Equal(rest, mp3[half:]) {
		t.Errorf("live, second half: %d of %d bytes, %v", len(rest), len(mp3)-half, err)
	}
	n.checkPlays(t, "/media/acc/vm.mp3", mp3)
	to := library.StoreRequest{Account: "acc", ID: "voicemail/1"}
	if _, err := lib.StoreRecording(ctx, rec.ID, to); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/media/acc/voicemail/1", "/media/acc/voicemail/1.mp3", "/media/acc/vm.mp3"} {
		n.checkPlays(t, path, mp3)
	}
}

// claim comes as the source of a ticket.
func claim(t *testing.T, lib *library.Library, rec library.Recording) *library.Session {
	t.Helper()
	user, _, _ := strings.Cut(strings.TrimPrefix(lib.RecordURL(rec), "shout://"), ":")
	session, err := lib.Claim(t.Context(), library.SourceRequest{
		Mount: rec.Name, User: user, Password: rec.Token, ContentType: "audio/mpeg",
	})
	if err != nil {
		t.Fatal(err)
	}
	return session
}

// checkPlays checks that a path plays a finite sound.
func (n *node) checkPlays(t *testing.T, path string, want []byte) {
	t.Helper()
	a := n.do(t, http.MethodGet, path)
	if a.status != http.StatusOK || !bytes.Equal(a.body, want) || a.length != int64(len(want)) ||
		a.header.Get("ETag") == "" {
		t.Errorf("%s: %d, %d of %d bytes, %v", path, a.status, len(a.body), len(want), a.header)
	}
}

// BenchmarkGetStored is BenchmarkGet with the real library and a local store.
func BenchmarkGetStored(b *testing.B) {
	lib := openLibrary(b)
	for id, size := range map[string]int{"small": 64<<10 - 44, "large": 1<<20 - 44, "huge": 20<<20 - 44} {
		store(b, lib, id, wav(b, size))
	}
	for _, bm := range []struct{ name, id, ranged string }{
		{"64KiB", "small", "-"},
		{"1MiB", "large", "-"},
		{"1MiB/new", "large", "-"},
		{"20MiB/new", "huge", "-"},
		{"range16KiBof1MiB", "large", "bytes=524288-540671"},
	} {
		b.Run(bm.name, func(b *testing.B) {
			n := newNode(b, lib, web.Config{})
			measure(b, n.addr, "/media/acc/"+bm.id, bm.ranged, 8, strings.HasSuffix(bm.name, "/new"))
		})
	}
}
