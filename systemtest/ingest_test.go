package systemtest

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestIngest sends what mod_http_cache, mod_httapi and kz_http_put send when
// they record to a URL, byte by byte but for the path, and a file per ticket.
func TestIngest(t *testing.T) { //nolint:tparallel // the parts share one cluster
	t.Parallel()
	c := Start(t, 3, nil)
	wave, mp3 := readFile(t, makeSamples(t).phone), phone().frames(74, 5)
	t.Run("mod_http_cache", func(t *testing.T) { ingestHTTPCache(t, c.For(t), wave, mp3) })
	t.Run("mod_httapi", func(t *testing.T) { ingestHTTAPI(t, c.For(t), wave) })
	t.Run("kz_http_put", func(t *testing.T) { ingestKazoo(t, c.For(t), wave) })
	t.Run("refused", func(t *testing.T) { ingestRefused(t, c.For(t), wave) })
}

// TestIngestNetworks: a network may PUT without credentials, and nothing else.
// FreeSWITCH 1.11's mod_httapi has none to send when it records.
func TestIngestNetworks(t *testing.T) {
	t.Parallel()
	c := Start(t, 1, settings{"ingest.allow": `["127.0.0.0/8"]`})
	n, mp3 := c.Node(0), phone().frames(50, 1)
	wave := readFile(t, makeSamples(t).phone)
	for path, want := range map[string]int{
		"/media/pbx/200/up.wav": http.StatusCreated,
		"/v1/recordings/" + n.ticket("pbx", "t.wav").ID + "/audio/t.wav": http.StatusCreated,
	} {
		if got := putHTTAPI(t, n, path, "", wave); got != want {
			t.Errorf("%s by mod_httapi: status %d", path, got)
		}
	}
	c.plays("/media/pbx/200/up.wav", wave)
	c.plays("/media/pbx/t.wav", wave)
	rec := n.ticket("pbx", "open.mp3")
	for path, want := range map[string]int{
		"/media/pbx/open/1.mp3":               http.StatusCreated,
		"/v1/recordings/" + rec.ID + "/audio": http.StatusCreated,
	} {
		if got := putHTTP(t, n, path, "", "", mp3); got != want {
			t.Errorf("%s without credentials: status %d", path, got)
		}
		// Wrong credentials are not made right by the network.
		if got := putHTTP(t, n, path, basic("x", "wrong"), "", mp3); got != http.StatusUnauthorized {
			t.Errorf("%s with wrong credentials: status %d", path, got)
		}
	}
	anonymous := []string{"Authorization", ""}
	resp, _, err := n.do(t.Context(), http.MethodDelete, "/media/pbx/open/1.mp3", nil, anonymous...)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("delete without credentials: %v, %v", resp, err)
	}
	c.plays("/media/pbx/open.mp3", mp3)
}

func basic(user, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)) + "\r\n"
}

// putHTTP sends a PUT as libcurl does: it waits for 100 Continue, for a second
// at most, if the extra header lines ask for it.
func putHTTP(t *testing.T, n *Node, path, auth, extra string, body []byte) int {
	t.Helper()
	host := strings.TrimPrefix(n.HTTP, "http://")
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(toolWait)); err != nil {
		t.Fatal(err)
	}
	head := "PUT " + path + " HTTP/1.1\r\nHost: " + host + "\r\n" + auth + extra
	if !strings.Contains(extra, "Transfer-Encoding") {
		head += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	if _, err := io.WriteString(conn, head+"\r\n"); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	status := func() int {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("PUT %s: %v", path, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	if strings.Contains(extra, "Expect") {
		if got := status(); got != http.StatusContinue {
			return got // refused before the body was sent
		}
	}
	_, _ = conn.Write(body) // a refusal may come before the end of it
	return status()
}

// ingestHTTPCache is `record http_cache://http://user:token@node/…`.
func ingestHTTPCache(t *testing.T, c *Cluster, wave, mp3 []byte) {
	t.Helper()
	const agent = "User-Agent: freeswitch-http-cache/1.0\r\nAccept: */*\r\n"
	auth := basic("any", testToken)
	extra := agent + "Content-Type: audio/x-wave\r\nExpect: 100-continue\r\n"
	if got := putHTTP(t, c.Node(0), "/media/pbx/200/up.wav", auth, extra, wave); got != http.StatusCreated {
		t.Fatalf("status %d", got)
	}
	c.plays("/media/pbx/200/up.wav", wave)

	rec := c.Node(1).ticket("pbx", "vm/a.mp3")
	u, err := url.Parse(rec.RecordURLHTTP)
	if err != nil || strings.Contains(u.Path, "@") || !strings.HasSuffix(u.Path, "/a.mp3") {
		t.Fatalf("record_url_http is %s, %v", rec.RecordURLHTTP, err)
	}
	password, _ := u.User.Password()
	auth = basic(u.User.Username(), password)
	extra = agent + "Content-Type: audio/mpeg\r\nExpect: 100-continue\r\n"
	for i, want := range []int{http.StatusCreated, http.StatusOK} { // the second after a lost answer
		if got := putHTTP(t, c.Node(2+i), u.Path, auth, extra, mp3); got != want {
			t.Errorf("status %d, want %d", got, want)
		}
	}
	sealed := c.Node(0).waitState(rec.ID, "sealed")
	if sealed.SHA256 != hashOf(mp3) {
		t.Errorf("sealed as %+v", sealed)
	}
	c.plays("/media/pbx/vm/a.mp3", mp3)
	if got := putHTTP(t, c.Node(0), u.Path, auth, extra, wave); got != http.StatusForbidden {
		t.Errorf("other sound for a used ticket: status %d", got)
	}
}

// putHTTAPI is `record http://…` of mod_httapi as it was captured (ha-put-wav):
// chunked, without a type, with an empty Cookie and a query that is not for us,
// unless the URL holds credentials (ha-put-auth).
func putHTTAPI(t *testing.T, n *Node, path, auth string, wave []byte) int {
	t.Helper()
	const extra = "User-Agent: mod_httapi/1.0\r\nAccept: */*\r\nTransfer-Encoding: chunked\r\nCookie: \r\n"
	const query = "?session_id=3663f633-2d18-4e03-8e64-9631ac7030f4&put_file=/tmp/3663f633_up.wav" +
		"&url=http%3A//127.0.0.1%3A18100/200/up.wav&file_driver=true" +
		"&HTTAPI_SESSION_ID=3663f633-2d18-4e03-8e64-9631ac7030f4&hostname=HOST"
	var body bytes.Buffer
	fmt.Fprintf(&body, "%x\r\n%s\r\n0\r\n\r\n", len(wave), wave)
	if auth == "" {
		path += query
	}
	return putHTTP(t, n, path, auth, extra, body.Bytes())
}

// ingestHTTAPI records with credentials, as versions before 1.11 did.
func ingestHTTAPI(t *testing.T, c *Cluster, wave []byte) {
	t.Helper()
	auth := basic("any", testToken)
	if got := putHTTAPI(t, c.Node(1), "/media/pbx/ha/up.wav", auth, wave); got != http.StatusCreated {
		t.Fatalf("status %d", got)
	}
	c.plays("/media/pbx/ha/up.wav", wave)
	rec := c.Node(1).ticket("pbx", "ha.wav")
	path := "/v1/recordings/" + rec.ID + "/audio/ha.wav"
	if got := putHTTAPI(t, c.Node(2), path, auth, wave); got != http.StatusCreated {
		t.Fatalf("status %d", got)
	}
	c.plays("/media/pbx/ha.wav", wave)
	if got := putHTTAPI(t, c.Node(0), "/media/pbx/ha/no.wav", "", wave); got != http.StatusUnauthorized {
		t.Errorf("without credentials or ingest.allow: status %d", got)
	}
}

// ingestKazoo is `kz_http_put URL FILE`, whose libcurl is curl's.
func ingestKazoo(t *testing.T, c *Cluster, wave []byte) {
	t.Helper()
	rec := c.Node(0).ticket("pbx", "kz.wav")
	file := t.TempDir() + "/kz.wav"
	writeFile(t, file, wave)
	out := run(t, "curl", "-sS", "-A", "freeswitch-kazoo/1.0", "-H", "Content-Type: audio/x-wav", "-L",
		"-w", "%{http_code}", "-o", "/dev/null", "-T", file, rec.RecordURLHTTP)
	if string(out) != "201" {
		t.Errorf("status %s", out)
	}
	c.plays("/media/pbx/kz.wav", wave)
}

func ingestRefused(t *testing.T, c *Cluster, wave []byte) {
	t.Helper()
	n := c.Node(0)
	rec := n.ticket("pbx", "no.wav")
	path := "/v1/recordings/" + rec.ID + "/audio"
	good, expect := basic("x", testToken), "Expect: 100-continue\r\n"
	for name, c := range map[string]struct {
		path, auth, extra string
		body              []byte
		want              int
	}{
		"no credentials":  {path, "", expect, wave, http.StatusUnauthorized},
		"wrong token":     {path, basic(rec.ID, "x"), expect, wave, http.StatusUnauthorized},
		"bearer nonsense": {path, "Authorization: Bearer x\r\n", expect, wave, http.StatusUnauthorized},
		"media, no token": {"/media/pbx/x.wav", "", expect, wave, http.StatusUnauthorized},
		"unknown":         {"/v1/recordings/nothing/audio", good, expect, wave, http.StatusNotFound},
		"a web page": {
			path, good, "Content-Type: text/html\r\n" + expect, wave, http.StatusUnsupportedMediaType,
		},
		"a page as sound": {
			path, good, "Content-Type: audio/mpeg\r\n", []byte("<html>"), http.StatusUnsupportedMediaType,
		},
		"a page as an item": {"/media/pbx/x.mp3", good, "", []byte("<html>"), http.StatusUnsupportedMediaType},
		"nothing":           {path, good, "", nil, http.StatusUnsupportedMediaType},
	} {
		if got := putHTTP(t, n, c.path, c.auth, c.extra, c.body); got != c.want {
			t.Errorf("%s: status %d, want %d", name, got, c.want)
		}
	}
	if now := n.recording(rec.ID); now.State != "waiting" {
		t.Errorf("after refusals the recording is %s", now.State)
	}
}
