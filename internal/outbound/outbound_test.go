package outbound

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"carillon/library/delivery"
	"carillon/library/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, t := range texts {
		all = append(all, netip.MustParsePrefix(t))
	}
	return all
}

func open(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// openLocal may reach this machine.
func openLocal(t *testing.T) *Client {
	t.Helper()
	return open(t, Config{Allow: prefixes("127.0.0.0/8", "::1/128"), UserAgent: "carillon/test"})
}

// TestRules: the smallest network decides, and denying wins.
func TestRules(t *testing.T) {
	r := rules{
		allow: prefixes("0.0.0.0/0", "::/0", "127.0.0.1/32", "10.9.0.0/16"),
		deny:  prefixes("127.0.0.0/8", "10.0.0.0/8", "10.9.0.0/16", "::1/128"),
	}
	for addr, ok := range map[string]bool{
		"1.2.3.4": true, "127.0.0.1": true, "127.0.0.2": false, "10.1.1.1": false, "10.9.1.1": false,
		"2001:db8::1": true, "::1": false, "::ffff:127.0.0.2": false, "::ffff:127.0.0.1": true,
		"fe80::1%eth0": true,
	} {
		err := r.check(netip.MustParseAddr(addr))
		if (err == nil) != ok || err != nil && !errors.Is(err, fault.ErrTarget) {
			t.Errorf("%s: %v, allowed is %v", addr, err, ok)
		}
	}
	if (rules{}).check(netip.MustParseAddr("1.2.3.4")) == nil {
		t.Error("without rules everything is allowed")
	}
}

// TestCheckTarget: what can be refused at once is.
func TestCheckTarget(t *testing.T) {
	c := open(t, Config{
		Allow: prefixes("0.0.0.0/0", "::/0"), Deny: prefixes("127.0.0.0/8", "169.254.0.0/16", "::1/128"),
	})
	for _, good := range []string{
		"http://example.com/x", "https://user:password@db.example.com:5984/a?b=c", "http://[2001:db8::1]:80/",
	} {
		if err := c.CheckTarget(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "example.com", "ftp://example.com/", "http:///x", "http://a b/", "http://127.0.0.1/", "http://[::1]/",
		"http://localhost:8080/", "http://x.localhost./", "http://169.254.169.254/latest/meta-data",
		"file:///etc/passwd",
		"http://example.com/#part", "http://example.com:0/", "http://[::ffff:127.0.0.1]/",
		"http://x/" + strings.Repeat("a", urlBytesMax), "http://example.com/%zz",
	} {
		if err := c.CheckTarget(bad); !errors.Is(err, fault.ErrTarget) {
			t.Errorf("%s: %v, want ErrTarget", bad, err)
		}
	}
}

// TestCheckHeader: no header can break or frame the message.
func TestCheckHeader(t *testing.T) {
	c := openLocal(t)
	if err := c.CheckHeader(map[string]string{"Authorization": "Bearer x", "x-amz-acl": "private"}); err != nil {
		t.Error(err)
	}
	for name, value := range map[string]string{
		"host": "x", "Content-Length": "1", "transfer-encoding": "chunked", "a b": "x", "": "x", "x": "a\r\nb: c",
		"y": strings.Repeat("v", headerBytesMax),
	} {
		if err := c.CheckHeader(map[string]string{name: value}); !errors.Is(err, fault.ErrBadRequest) {
			t.Errorf("%q: %v, want ErrBadRequest", name, err)
		}
	}
}

// TestSend: body, size, headers and credentials arrive; every answer is a
// receipt, and a redirect is not followed.
func TestSend(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		user, password, _ := r.BasicAuth()
		if string(body) != "hello" || r.ContentLength != 5 || r.Header.Get("X-A") != "b" || user != "u" ||
			password != "p:w" || r.UserAgent() != "carillon/test" {
			t.Errorf("%s %d %v", body, r.ContentLength, r.Header)
		}
		if r.URL.Path == "/elsewhere" {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
			return
		}
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "busy\n\x1b[31mnow"+strings.Repeat("x", 100<<10))
	}))
	defer srv.Close()
	c := openLocal(t)
	send := func(path string) delivery.Receipt {
		t.Helper()
		r, err := c.Send(t.Context(), delivery.Request{
			Method: "PUT", URL: strings.Replace(srv.URL, "://", "://u:p%3Aw@", 1) + path,
			Header: map[string]string{"X-A": "b"}, Body: strings.NewReader("hello"), Size: 5,
		})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := send("/")
	if r.Status != 503 || r.RetryAfter != 7*time.Second || !strings.HasPrefix(r.Text, "busy [31mnow") ||
		len(r.Text) > textBytesMax {
		t.Errorf("%+v", r)
	}
	if r := send("/elsewhere"); r.Status != http.StatusFound {
		t.Errorf("%+v", r)
	}
}

// TestSendAuthorization: a header that somebody gave is sent as it is, whatever
// the URL says.
func TestSendAuthorization(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "Bearer x" {
			t.Errorf("authorization %q", got)
		}
	}))
	defer srv.Close()
	r, err := openLocal(t).Send(t.Context(), delivery.Request{
		Method: "PUT", URL: strings.Replace(srv.URL, "://", "://u:p@", 1),
		Header: map[string]string{"authorization": "Bearer x"},
	})
	if err != nil || r.Status != http.StatusOK {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestSendChecksWhatItDials: a name that leads to a denied address is refused
// when it is dialled, and secrets of the URL are in no error.
func TestSendChecksWhatItDials(t *testing.T) {
	c := open(t, Config{Allow: prefixes("0.0.0.0/0", "::/0"), Deny: prefixes("127.0.0.0/8", "::1/128")})
	for _, target := range []string{
		"http://user:hidden@localhost:9/a?sig=hidden", "http://user:hidden@127.1:9/?hidden",
	} {
		_, err := c.Send(t.Context(), delivery.Request{Method: "POST", URL: target})
		if err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", target, err)
		}
	}
	_, err := c.Send(t.Context(), delivery.Request{Method: "POST", URL: "http://localhost:9/"})
	if !errors.Is(err, fault.ErrTarget) {
		t.Errorf("dialled localhost: %v, want ErrTarget", err)
	}
}

// TestSendStalled: a target that takes bytes and never answers is left.
func TestSendStalled(t *testing.T) {
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	c := open(t, Config{Allow: prefixes("127.0.0.0/8"), StallMax: 50 * time.Millisecond})
	_, err = c.Send(context.Background(), delivery.Request{
		Method: "POST", URL: "http://" + ln.Addr().String(), Body: strings.NewReader("x"), Size: 1,
	})
	if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
		t.Errorf("stalled: %v", err)
	}
}

// FuzzTarget: no URL makes the checks panic, and what is accepted has a host.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{
		"http://a/", "https://u:p@[::1]:8/x?y#z", "http://a%20b/", "HTTP://\x00", "http://127.1",
	} {
		f.Add(s)
	}
	c, err := Open(Config{Allow: prefixes("0.0.0.0/0")})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if c.CheckTarget(s) != nil {
			return
		}
		if u, err := parseTarget(s); err != nil || u.Hostname() == "" {
			t.Errorf("%q was accepted: %v", s, err)
		}
	})
}
