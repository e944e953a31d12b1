package shoutd

import (
	"encoding/base64"
	"strings"
	"testing"

	"carillon/library"
)

// TestIcecastCVEs sends what Icecast fell over in its time, as a source. Each
// gets a status at once, no claim is made with what was not sent, nothing of
// the request can be taken for a line of the log, and the server goes on. (Two
// do not apply: no program is started on connect, CVE-2014-9018, and no server
// is asked who may, where headers were copied into a buffer on the stack,
// CVE-2018-18820; its request is sent all the same.)
func TestIcecastCVEs(t *testing.T) {
	long := strings.Repeat("A", 8000)
	head := "SOURCE /x.mp3 HTTP/1.0\r\n"
	basic := func(login string) string {
		return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(login)) + "\r\n"
	}
	tests := []struct {
		cve, request string
		status       int
	}{
		{"2004-1561: 200 headers", head + authorization + strings.Repeat("a: b\r\n", 200) + "\r\n", 431},
		{"2004-2027: long Basic", head + "Authorization: Basic " + long + "\r\n\r\n", 431},
		{"2004-2027: long login", head + basic(long[:1500]+":"+long[:1000]) + "\r\n", 401},
		{"2005-0837: trailing dot", "SOURCE /admin/stats. HTTP/1.0\r\n\r\n", 401},
		{"2005-0837: trailing dot", "GET /admin/stats.xsl. HTTP/1.0\r\n\r\n", 404},
		{
			"2011-4612: lines in a path",
			"SOURCE /x%0d%0a[1970]%20INFO%20ok HTTP/1.0\r\n" + basic("x:y") + "\r\n", 401,
		},
		{"2011-4612: lines in a login", head + basic("x\r\n[1970] INFO ok:y") + "\r\n", 401},
		{"2015-3026: no credentials", head + "\r\n", 401},
		{"2015-3026: nothing after Basic", head + "Authorization: Basic\r\n\r\n", 401},
		{"2015-3026: nothing in it", head + "Authorization: \r\n\r\n", 401},
		{"2015-3026: another scheme", head + "Authorization: Digest username=\"x\"\r\n\r\n", 401},
		{"2015-3026: no colon", head + basic("foobar") + "\r\n", 401},
		{
			"2018-18820: long headers",
			head + basic("x:y") + strings.Repeat("X-"+long[:3000]+": "+long[:900]+"\r\n", 9) + "\r\n", 431,
		},
		{"2018-18820: a long header", head + "User-Agent: " + long + "\r\n\r\n", 431},
		{"path tricks: a long mount", "SOURCE /" + long + " HTTP/1.0\r\n\r\n", 414},
		{"path tricks: NUL", "SOURCE /x%00.mp3 HTTP/1.0\r\n" + basic("x:y") + "\r\n", 401},
		{"path tricks: bad escape", "SOURCE /%zz HTTP/1.0\r\n" + authorization + "\r\n", 400},
	}
	d := openDoor(t, Config{})
	for _, test := range tests {
		c := d.dial(t)
		c.send(test.request)
		method := methodSource
		if strings.HasPrefix(test.request, methodGet) {
			method = methodGet
		}
		resp, body := c.answer(method)
		if resp.StatusCode != test.status || body != "" {
			t.Errorf("%s: status %d %q, want %d", test.cve, resp.StatusCode, body, test.status)
		}
		_ = c.Close()
	}
	d.lib.mu.Lock()
	claims := len(d.lib.claims)
	d.lib.mu.Unlock()
	if claims != 0 {
		t.Errorf("%d claims were let in", claims)
	}
	for line := range strings.Lines(d.log.String()) {
		forged := strings.Contains(line, "[1970] INFO") && !strings.Contains(line, `\n`)
		if forged || !strings.HasPrefix(line, "time=") {
			t.Errorf("log line %q", line)
		}
	}
	c := d.dial(t)
	c.send(head + authorization + "\r\n")
	c.exactly(answerSource)
	c.send("sound")
	_ = c.CloseWrite()
	d.session(t).endsAs(t, library.EndedClean, "sound")
}
