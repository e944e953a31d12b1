package client_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"carillon/admin/client"
	"carillon/library"
)

// Goal: the calls on names and accounts say what their arguments say.
func TestNameCalls(t *testing.T) {
	t.Parallel()
	c := open(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		q := r.URL.RawQuery
		switch r.Method + " " + r.URL.EscapedPath() + " " + string(body) {
		case `POST /v1/media/copy {"from":{"account":"a","id":"x/y"},"to":{"account":"b","id":"z"},` +
			`"set":{"name":"N"},"overwrite":true}`:
			if r.Header.Get("If-Match") != `"1"` || r.Header.Get("If-None-Match") != "*" {
				t.Errorf("headers of a copy are %v", r.Header)
			}
			_, _ = io.WriteString(w, `{"id":"z"}`)
		case `PATCH /v1/accounts/a/media/x {"class":"voicemail","streamable":false,"tts":{"text":"Hi"}}`:
			if r.Header.Get("If-Match") != `"2"` {
				t.Errorf("headers of an update are %v", r.Header)
			}
			_, _ = io.WriteString(w, `{"id":"x"}`)
		case "PUT /media/a/x body":
			for _, want := range []string{"class=voicemail", "media_source=tts", "streamable=false", "tts_text=Hi"} {
				if !strings.Contains(q, want) {
					t.Errorf("query of a put lacks %s: %s", want, q)
				}
			}
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, `{"id":"x"}`)
		case "DELETE /v1/accounts/a/media/x%2Fy ":
			if q != "hard=true" {
				t.Errorf("query of a purge is %s", q)
			}
			w.WriteHeader(http.StatusNoContent)
		case "GET /v1/accounts/a/media/x%2Fy/uses ":
			_, _ = io.WriteString(w, `{"exists":true,"items":[{"kind":"alias","account":"b","id":"z"}]}`)
		case "GET /v1/accounts/a/prompts ":
			answer := `{"items":[{"prompt_id":"p1","languages":{"en":"x"}}],"next":"p1"}`
			if strings.Contains(q, "after=p1") {
				answer = `{"items":[{"prompt_id":"p2","languages":{}}]}`
			}
			_, _ = io.WriteString(w, answer)
		case `POST /v1/accounts/a/retention/preview {"limit":3,"retention_seconds":{"upload":5}}`:
			_, _ = io.WriteString(w, `{"items":7}`)
		case `PATCH /v1/accounts/a {"gain_db":99}`:
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":{"code":"bad_request","message":"gain_db must be less",`+
				`"request_id":"r","fields":{"gain_db":{"code":"range","message":"must be less"}}}}`)
		default:
			t.Errorf("unexpected %s %s %s", r.Method, r.URL.EscapedPath(), body)
			w.WriteHeader(http.StatusTeapot)
		}
	})
	ctx := t.Context()
	uses, err := c.Uses(ctx, "a", "x/y")
	if err != nil || !uses.Exists || len(uses.Items) != 1 || uses.Items[0].Kind != library.UseAlias {
		t.Errorf("uses: %+v, %v", uses, err)
	}
	doc, err := c.Copy(ctx, library.CopyRequest{
		From: library.ItemName{Account: "a", ID: "x/y"}, To: library.ItemName{Account: "b", ID: "z"},
		Set: library.Patch{Name: new("N")}, Overwrite: true, IfMatch: `"1"`, IfNoneMatch: "*",
	})
	if err != nil || doc.ID != "z" {
		t.Errorf("copy: %+v, %v", doc, err)
	}
	_, err = c.Update(ctx, "a", "x", library.Patch{
		Class: new(library.ClassVoicemail), Streamable: new(false), TTS: &library.TTS{Text: "Hi"}, IfMatch: `"2"`,
	})
	if err != nil {
		t.Errorf("update: %v", err)
	}
	_, created, err := c.PutMedia(ctx, "a", "x", strings.NewReader("body"), 4, library.PutOptions{
		Class: library.ClassVoicemail, Source: "tts", Streamable: new(false), TTS: &library.TTS{Text: "Hi"},
	}, nil)
	if err != nil || !created {
		t.Errorf("put: %v, %v", created, err)
	}
	if err := c.Purge(ctx, "a", "x/y"); err != nil {
		t.Errorf("purge: %v", err)
	}
	var prompts []string
	for p, err := range c.Prompts(ctx, "a", library.PromptQuery{}) {
		if err != nil {
			t.Fatal(err)
		}
		prompts = append(prompts, p.Prompt)
	}
	if diff := cmp.Diff([]string{"p1", "p2"}, prompts); diff != "" {
		t.Error(diff)
	}
	x, err := c.Expiring(ctx, "a", library.ExpiryQuery{
		RetentionSeconds: map[library.Class]int64{library.ClassUpload: 5}, Limit: 3,
	})
	if err != nil || x.Items != 7 {
		t.Errorf("preview: %+v, %v", x, err)
	}
	_, err = c.PatchAccount(ctx, "a", map[string]any{"gain_db": 99})
	answer, _ := errors.AsType[*client.Error](err)
	if !errors.Is(err, library.ErrBadRequest) || answer.Fields["gain_db"].Code != "range" {
		t.Errorf("wrong settings: %v", err)
	}
}
