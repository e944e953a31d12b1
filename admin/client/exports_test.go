package client_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"carillon/admin/client"
	"carillon/library"
	"carillon/library/export"
)

// What is asked of a recording, of exports and of sound goes to its route, with
// the body that the server reads.
func TestRecordingCalls(t *testing.T) {
	t.Parallel()
	var seen, body string
	answer := `{}`
	c := open(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		seen, body = r.Method+" "+r.URL.RequestURI(), string(b)
		if r.Method == http.MethodDelete {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		_, _ = io.WriteString(w, answer)
	})
	ctx := t.Context()
	request := client.StoreRequest{Target: export.Target{URL: "http://x/y", DeleteAfter: true}}
	for _, call := range []struct {
		do   func() error
		want string
		body string
	}{
		{
			func() error { _, err := c.Export(ctx, "r1", request); return err }, "POST /v1/recordings/r1/store",
			`"url":"http://x/y"`,
		},
		{
			func() error {
				_, _, err := c.Exports(ctx, export.Query{Account: "a", State: export.Failed, Limit: 5})
				return err
			},
			"GET /v1/exports?account=a&limit=5&state=failed", "",
		},
		{
			func() error {
				_, err := c.ExportItem(ctx, library.ItemExport{
					ItemName: library.ItemName{Account: "a", ID: "b/c"}, Target: export.Target{URL: "http://x"},
				})
				return err
			},
			"POST /v1/exports", `{"account":"a","id":"b/c","url":"http://x"`,
		},
		{func() error { _, err := c.RetryExport(ctx, "x1"); return err }, "POST /v1/exports/x1/retry", ""},
		{func() error { return c.RemoveExport(ctx, "x1") }, "DELETE /v1/exports/x1", ""},
		{func() error { _, err := c.Rerecord(ctx, "r1"); return err }, "POST /v1/recordings/r1/rerecord", ""},
		{
			func() error {
				_, err := c.Join(ctx, library.JoinRequest{Parts: []library.Piece{{ToneHz: 440, MS: 5}}})
				return err
			},
			"POST /v1/media/join", `"tone_hz":440`,
		},
		{
			func() error { _, err := c.Trim(ctx, library.TrimRequest{Silence: true}); return err },
			"POST /v1/media/trim", `"silence":true`,
		},
		{
			func() error {
				_, err := c.Silence(ctx, library.SilenceRequest{Account: "a", ID: "b/c"})
				return err
			},
			"GET /v1/media/silence?account=a&id=b%2Fc", "",
		},
		{
			func() error {
				_, err := c.Silence(ctx, library.SilenceRequest{RecordingID: "r1", ThresholdDB: -40.5, MinimumMS: 200})
				return err
			},
			"GET /v1/media/silence?minimum_ms=200&recording_id=r1&threshold_db=-40.5", "",
		},
	} {
		if err := call.do(); err != nil || seen != call.want || !strings.Contains(body, call.body) {
			t.Errorf("sent %s %s, %v; want %s %s", seen, body, err, call.want, call.body)
		}
	}
}
