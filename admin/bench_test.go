package admin

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"carillon/internal/web"
	"carillon/library"
)

// drain is a library that takes bodies and keeps nothing.
type drain struct{ *fakeLibrary }

func (drain) Put(_ context.Context, account, id string, body io.Reader, _ library.PutOptions) (
	library.Document, bool, error,
) {
	n, err := io.Copy(io.Discard, body)
	return library.Document{Account: account, ID: id, Size: n, SHA256: strings.Repeat("ab", 32)}, false, err
}

// BenchmarkPut is what the door itself costs a PUT of 64 KiB: no network and
// no storage, but routing, the token, the checks, the body and the answer.
func BenchmarkPut(b *testing.B) {
	log, reg := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	api, err := New(Config{UploadBytesMax: uploadBytesMax}, Deps{
		Library: drain{}, Tokens: web.NewTokens(testToken), Allow: func(netip.Addr) bool { return true },
		Log: log, Metrics: reg, Gatherer: reg,
	})
	if err != nil {
		b.Fatal(err)
	}
	e := web.New(log)
	api.Routes(e)
	body := strings.Repeat("s", 64<<10)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequestWithContext(b.Context(), http.MethodPut, "/media/acc/a", strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+testToken)
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatal(w.Code, w.Body)
		}
	}
}
