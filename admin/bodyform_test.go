package admin

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// form is a body as mod_httapi posts it (freeswitch-wire.md section 5): fields,
// then files, all octet streams.
func form(files ...string) string {
	const boundary = "\r\n--b0undary\r\n"
	var b strings.Builder
	b.WriteString(boundary + "Content-Disposition: form-data; name=\"session_id\"\r\n\r\n3663f633")
	for _, file := range files {
		b.WriteString(boundary + "Content-Disposition: form-data; name=\"rf\"; filename=\"3663_my.wav\"\r\n" +
			"Content-Type: application/octet-stream\r\n\r\n" + file)
	}
	return b.String() + "\r\n--b0undary--\r\n"
}

// Goal: sound that comes in a form or in base64, as switches post it and as
// Kazoo took it, is the sound itself; what is no such thing is said.
func TestWrappedBodies(t *testing.T) {
	n := newStored(t)
	sound := wav(t, 2*time.Second)
	etag := `"` + sumOf(sound) + `"`
	const isForm = "Content-Type: multipart/form-data; boundary=b0undary"
	const is64 = "Content-Type: application/base64"
	text := base64.StdEncoding.EncodeToString([]byte(sound))
	var lines strings.Builder
	for rest := text; rest != ""; {
		line := rest[:min(76, len(rest))]
		rest = rest[len(line):]
		lines.WriteString(line + "\r\n")
	}
	post := func(name, body string, status int, code string, headers ...string) scenario {
		sc := scenario{
			name: name, method: "POST", path: "/media/acc/" + strings.ReplaceAll(name, " ", "-"), body: body,
			headers: headers, status: status, code: code,
		}
		if status == http.StatusCreated {
			sc.wantHeader = "ETag: " + etag
		}
		return sc
	}
	put := post("form by put", form(sound), 201, "", isForm)
	put.method = "PUT"
	n.run(t, []scenario{
		put,
		post("the bytes", sound, 201, "", "Content-Type: application/x-www-form-urlencoded"),
		post("form", form(sound), 201, "", isForm),
		post("two files", form(sound, sound), 400, "bad_request", isForm),
		post("no file", form(), 400, "bad_request", isForm),
		post("empty file", form(""), 415, "unsupported_media", isForm),
		post("no sound", form("hello"), 415, "unsupported_media", isForm),
		post("cut form", form(sound)[:20_000], 400, "incomplete", isForm),
		post("no end", strings.TrimSuffix(form(sound), "--b0undary--\r\n"), 400, "incomplete", isForm),
		post("other boundary", strings.ReplaceAll(form(sound), "b0undary", "x"), 400, "incomplete", isForm),
		post("no boundary", form(sound), 400, "bad_request", "Content-Type: multipart/form-data"),
		post("large form", form(strings.Repeat("x", 3*uploadBytesMax)), 413, "too_large", isForm),
		post("related", form(sound), 415, "unsupported_media", "Content-Type: multipart/related; boundary=b"),
		post("base64", text, 201, "", is64),
		post("base64 in lines", lines.String(), 201, "", "Content-Type: application/x-base64"),
		post("data URI", "data:audio/wav;base64,"+text, 201, "", is64),
		post("data URI as it is", "data:audio/wav,"+text, 400, "bad_request", is64),
		post("no base64", strings.Replace(text, "A", "*", 1), 400, "bad_request", is64),
		post("cut base64", text[:1001], 400, "incomplete", is64),
		post("base64 of nothing", "", 415, "unsupported_media", is64),
		{
			name: "what was refused is not there", method: "GET", path: "/v1/accounts/acc/media", status: 200,
			contains: []string{`"form"`, `"data-URI"`}, lacks: "two-files",
		},
	})
	// Fields that never end, of which no length says so, end where the limit is.
	chunk := strings.Repeat("x", 1<<16)
	begin := strings.TrimSuffix(form(), "\r\n--b0undary--\r\n")
	a := n.raw(t, false, "POST /media/acc/junk HTTP/1.1\r\nHost: x\r\n"+auth+"\r\n"+isForm+
		"\r\nTransfer-Encoding: chunked\r\n\r\n"+fmt.Sprintf("%x\r\n%s\r\n", len(begin), begin)+
		strings.Repeat("10000\r\n"+chunk+"\r\n", 20))
	if a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("junk without end: %d %s", a.status, a.body)
	}
}

// Goal: the file of a recording may be posted, too.
func TestPostedRecording(t *testing.T) {
	t.Parallel()
	n := newStored(t)
	sound := wav(t, time.Second)
	ticket := n.do(t, "POST", "/v1/recordings", `{"account":"acc","name":"vm.wav"}`, auth)
	path := ticket.header.Get("Location") + "/audio/vm.wav"
	a := n.do(t, "POST", path, form(sound), auth, "Content-Type: multipart/form-data; boundary=b0undary")
	if a.status != http.StatusCreated || !strings.Contains(a.body, sumOf(sound)) {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// Goal: a network that may PUT without a token does not let in what some web
// page makes a browser in it post.
func TestPostOfAnotherSite(t *testing.T) {
	t.Parallel()
	n := newStored(t)
	n.api.deps.Ingest = func(netip.Addr) bool { return true }
	sound := wav(t, time.Second)
	const isForm = "Content-Type: multipart/form-data; boundary=b0undary"
	for what, c := range map[string]struct {
		headers []string
		status  int
	}{
		"a switch":            {[]string{"User-Agent: mod_httapi/1.0"}, 201},
		"a page elsewhere":    {[]string{"Origin: http://evil.example", "Sec-Fetch-Site: cross-site"}, 401},
		"an old browser":      {[]string{"Origin: http://evil.example"}, 401},
		"elsewhere, by token": {[]string{"Origin: http://tool.example", auth}, 201},
	} {
		path := "/media/acc/" + strings.ReplaceAll(what, " ", "-")
		if a := n.do(t, "POST", path, form(sound), append(c.headers, isForm)...); a.status != c.status {
			t.Errorf("%s: %d %s, want %d", what, a.status, a.body, c.status)
		}
	}
}
