package library

import (
	"bytes"
	"encoding/binary"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"carillon/blobstore"
	"carillon/library/libtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testConfig() Config {
	return Config{
		HTTPURL: "http://127.0.0.1:8080", ShoutHost: "127.0.0.1:8000",
		Sources: []SourceAccount{{User: "foo", Password: "bar", Account: "acme"}},
	}
}

func testDeps(local *blobstore.Local) Deps {
	return Deps{
		NodeID: "node-1", Writer: local, Shelf: local, Catalog: local,
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	}
}

func openLibrary(tb testing.TB, cfg Config, deps Deps) *Library {
	tb.Helper()
	l, err := Open(tb.Context(), cfg, deps)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Error(err)
		}
	})
	return l
}

// newLibrary is a library alone on a store of its own.
func newLibrary(tb testing.TB) (*Library, *blobstore.Local) {
	tb.Helper()
	local := libtest.OpenStore(tb, tb.TempDir())
	return openLibrary(tb, testConfig(), testDeps(local)), local
}

const (
	mp3FrameBytes = 144 // FreeSWITCH's: MPEG-2.5, 16 kbit/s, 8 kHz, 72 ms
	mp3FrameMS    = 72
)

// mp3Sound is frames of what FreeSWITCH records, with random content.
func mp3Sound(frames int) []byte {
	out := make([]byte, 0, frames*mp3FrameBytes)
	for range frames {
		frame := make([]byte, mp3FrameBytes)
		copy(frame, "\xff\xe3\x28\xc4")
		for i := 4 + 9; i < len(frame); i++ {
			frame[i] = byte(rand.IntN(0x7f))
		}
		out = append(out, frame...)
	}
	return out
}

// wavSound is 16 bit mono PCM at 8 kHz.
func wavSound(samples int) []byte {
	data := make([]byte, 2*samples)
	for i := range samples {
		binary.LittleEndian.PutUint16(data[2*i:], uint16(rand.IntN(1000)))
	}
	le := binary.LittleEndian
	b := append([]byte(nil), "RIFF"...)
	b = le.AppendUint32(b, uint32(36+len(data)))
	b = append(b, "WAVEfmt "...)
	b = le.AppendUint32(b, 16)
	b = le.AppendUint16(b, 1)
	b = le.AppendUint16(b, 1)
	b = le.AppendUint32(b, 8000)
	b = le.AppendUint32(b, 16000)
	b = le.AppendUint16(b, 2)
	b = le.AppendUint16(b, 16)
	b = append(b, "data"...)
	b = le.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

func put(tb testing.TB, l *Library, account, id string, sound []byte, opts PutOptions) Document {
	tb.Helper()
	opts.Length = int64(len(sound))
	d, _, err := l.Put(tb.Context(), account, id, bytes.NewReader(sound), opts)
	if err != nil {
		tb.Fatalf("put %s/%s: %v", account, id, err)
	}
	return d
}

func readItem(tb testing.TB, l *Library, d Document) []byte {
	tb.Helper()
	r, err := l.OpenItem(tb.Context(), d)
	if err != nil {
		tb.Fatalf("open %s/%s: %v", d.Account, d.ID, err)
	}
	return readAll(tb, r)
}

func readAll(tb testing.TB, r *blobstore.Reader) []byte {
	tb.Helper()
	defer func() { _ = r.Close() }()
	b, err := io.ReadAll(r)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// refs are the reference rows in the catalog.
func refs(tb testing.TB, catalog blobstore.Catalog) []string {
	tb.Helper()
	return libtest.Keys(tb, catalog, blobstore.RefPrefix)
}

func ticketRequest(l *Library, r Recording) SourceRequest {
	user, rest, _ := strings.Cut(strings.TrimPrefix(l.RecordURL(r), "shout://"), ":")
	password, rest, _ := strings.Cut(rest, "@")
	_, mount, _ := strings.Cut(rest, "/")
	return SourceRequest{Mount: mount, User: user, Password: password, ContentType: "audio/mpeg"}
}
