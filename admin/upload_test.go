package admin

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func sumOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// curl runs the real client and returns what it printed: its protocol trace
// (-v) and the body.
func curl(t *testing.T, stdin io.Reader, args ...string) (trace, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, "curl", append([]string{"-sv"}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("curl: %v\n%s", err, errs.String())
	}
	return errs.String(), out.String()
}

// Curl uploads with Expect: 100-continue, in chunks from a pipe, and is
// refused before it sends its body.
func TestCurlUploads(t *testing.T) {
	t.Parallel()
	n := newNode(t, newFake())
	sound := strings.Repeat("sound ", 50_000)
	file := filepath.Join(t.TempDir(), "a.wav")
	if err := os.WriteFile(file, []byte(sound), 0o600); err != nil {
		t.Fatal(err)
	}
	trace, body := curl(t, nil, "-H", auth, "-H", "Expect: 100-continue", "-T", file, n.url+"/media/acc/a.wav")
	if !strings.Contains(trace, "< HTTP/1.1 100 Continue") ||
		!strings.Contains(trace, "< HTTP/1.1 201 Created") || !strings.Contains(body, sumOf(sound)) {
		t.Errorf("expect: %s\n%s", trace, body)
	}
	trace, body = curl(t, strings.NewReader(sound), "-H", auth, "-T", "-", n.url+"/media/acc/a.wav")
	if !strings.Contains(trace, "Transfer-Encoding: chunked") || !strings.Contains(trace, "< HTTP/1.1 200 OK") ||
		!strings.Contains(body, sumOf(sound)) {
		t.Errorf("chunked: %s\n%s", trace, body)
	}
	// FreeSWITCH can only put the token into the URL.
	trace, _ = curl(t, nil, "-T", file, "http://any:"+testToken+"@"+n.addr+"/media/acc/b.wav")
	if !strings.Contains(trace, "< HTTP/1.1 201 Created") {
		t.Errorf("basic: %s", trace)
	}
	_, readsBefore := n.fake.counts()
	for name, args := range map[string][]string{
		"401": {"-T", file, n.url + "/media/acc/c.wav"},
		"400": {"-H", auth, "-T", file, n.url + "/media/acc/c%00.wav"},
		"413": {"-H", auth, "-H", "Content-Length: 99999999", "-T", file, n.url + "/media/acc/c.wav"},
	} {
		trace, _ := curl(t, nil, append([]string{"-H", "Expect: 100-continue"}, args...)...)
		if !strings.Contains(trace, "< HTTP/1.1 "+name) || strings.Contains(trace, "100 Continue") {
			t.Errorf("want %s without the body: %s", name, trace)
		}
	}
	if _, reads := n.fake.counts(); reads != readsBefore {
		t.Errorf("%d refused bodies were read", reads-readsBefore)
	}
}

// raw sends bytes, closes its side if asked to, and reads the response.
func (n *node) raw(t *testing.T, closeWrite bool, request string) answer {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(testWait))
	_, _ = io.WriteString(c, request) // a refusal may come before the end of it
	if tcp, ok := c.(*net.TCPConn); ok && closeWrite {
		_ = tcp.CloseWrite()
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

// Bodies that are cut, stall, lie or never end are refused with the right
// status, and nothing of them is stored.
func TestBrokenUploads(t *testing.T) {
	t.Parallel()
	n := newNode(t, newFake())
	head := "PUT /media/acc/x HTTP/1.1\r\nHost: x\r\n" + auth + "\r\n"
	tests := []struct {
		name    string
		close   bool
		request string
		status  int
		code    string
	}{
		{"half, then closed", true, head + "Content-Length: 100\r\n\r\nhalf", 400, "incomplete"},
		{"half, then silent", false, head + "Content-Length: 100\r\n\r\nhalf", 408, "timeout"},
		{"nothing, then silent", false, head + "Content-Length: 100\r\n\r\n", 408, "timeout"},
		{"half a chunk", true, head + "Transfer-Encoding: chunked\r\n\r\n10\r\nhalf", 400, "incomplete"},
		{"no last chunk", true, head + "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", 400, "incomplete"},
		{"no chunk size", true, head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "incomplete"},
		{
			"chunks without end", false, head + "Transfer-Encoding: chunked\r\n\r\n" +
				strings.Repeat("10000\r\n"+strings.Repeat("x", 1<<16)+"\r\n", 17), 413, "too_large",
		},
		{"asks, then silent", false, head + "Content-Length: 100\r\nExpect: 200-ok\r\n\r\n", 417, ""},
	}
	for _, tt := range tests {
		a := n.raw(t, tt.close, tt.request)
		if a.status != tt.status || a.code() != tt.code {
			t.Errorf("%s: %d %s, want %d %s", tt.name, a.status, a.body, tt.status, tt.code)
		}
	}
	a := n.do(t, http.MethodGet, "/v1/accounts/acc/media", "", auth)
	if !strings.Contains(a.body, `"items":[]`) {
		t.Errorf("something was stored: %s", a.body)
	}
}

// FuzzDecodeJSON: whatever comes, the answer is a document or an error that
// may be shown.
func FuzzDecodeJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"name":"x","metadata":{"a":"b"}}`, `{"title":1}`, `[]`, `null`, `{"name":`, "{\"name\":\"\xff\"}",
		`{} {}`, `{"metadata":{"a":1}}`, "\ufeff{}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v struct {
			Name     *string           `json:"name"`
			Metadata map[string]string `json:"metadata"`
		}
		if err := decodeJSON(b, &v); err != nil && strings.Contains(err.Error(), "Go ") {
			t.Errorf("%q: %v", b, err)
		}
	})
}
