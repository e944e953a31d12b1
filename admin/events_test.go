package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"carillon/admin/client"
	"carillon/library"
	"carillon/library/feed"
)

func eventClient(tb testing.TB, n *node) *client.Client {
	tb.Helper()
	c, err := client.New(n.url, testToken)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

func (n *node) store(tb testing.TB, path string) {
	tb.Helper()
	if a := n.do(tb, "PUT", path, wav(tb, 100e6), "Authorization: Bearer "+testToken); a.status/100 != 2 {
		tb.Fatalf("put %s: %d %s", path, a.status, a.body)
	}
}

// TestEventsRead: what is there is read and the feed ends; filters hold.
func TestEventsRead(t *testing.T) {
	n := newStored(t)
	c := eventClient(t, n)
	for i := range 5 {
		n.store(t, fmt.Sprintf("/media/acc/%d.wav", i))
		n.store(t, fmt.Sprintf("/media/other/%d.wav", i))
	}
	read := func(o client.EventOptions) (ids []string, next string) {
		t.Helper()
		next, err := c.Events(t.Context(), o, func(e feed.Event) error {
			ids = append(ids, e.Account+"/"+e.ID)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return ids, next
	}
	ids, next := read(client.EventOptions{Account: "acc", Kinds: []string{"media", "recording"}})
	if strings.Join(ids, " ") != "acc/0.wav acc/1.wav acc/2.wav acc/3.wav acc/4.wav" {
		t.Errorf("read %v", ids)
	}
	n.store(t, "/media/acc/5.wav")
	if ids, _ = read(client.EventOptions{After: next}); strings.Join(ids, " ") != "other/4.wav acc/5.wav" {
		t.Errorf("after %s: %v", next, ids)
	}
	for path, status := range map[string]int{
		"/v1/events?after=x": 400, "/v1/events?kind=nothing": 400, "/v1/events?follow=1": 400,
		"/v1/events?account=a%2Fb": 400, "/v1/events?after=99999999.0": 410, "/v1/events?what=1": 400,
	} {
		if a := n.do(t, "GET", path, "", "Authorization: Bearer "+testToken); a.status != status || a.code() == "" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if a := n.do(t, "GET", "/v1/events", ""); a.status != 401 {
		t.Errorf("without a token: %d", a.status)
	}
	_, err := c.Events(t.Context(), client.EventOptions{After: "99999999.0"}, nil)
	if !errors.Is(err, library.ErrTrimmed) || !strings.Contains(err.Error(), "beyond the log") {
		t.Errorf("future position: %v", err)
	}
}

// TestEventsFollowed: events come as they happen, the form is that of
// server-sent events, and a stopping node says so in the last one.
func TestEventsFollowed(t *testing.T) {
	n := newStored(t)
	n.store(t, "/media/acc/before.wav")
	ctx, cancel := context.WithTimeout(t.Context(), testWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.url+"/v1/events?after=oldest", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if ct := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || ct != "text/event-stream" {
		t.Fatalf("%d %s", resp.StatusCode, ct)
	}
	var all strings.Builder
	readUntil := func(text string) {
		t.Helper()
		buf := make([]byte, 4096)
		for !strings.Contains(all.String(), text) {
			k, err := resp.Body.Read(buf)
			if all.Write(buf[:k]); err != nil && !strings.Contains(all.String(), text) {
				t.Fatalf("waiting for %q: %v in\n%s", text, err, all.String())
			}
		}
	}
	readUntil(`"id":"before.wav"`)
	n.store(t, "/media/acc/after.wav")
	readUntil(`"id":"after.wav"`)
	if text := all.String(); !strings.HasPrefix(text, "retry: 1000\n: position ") ||
		!strings.Contains(text, "\nevent: media.created\ndata: {\"position\":\"") {
		t.Errorf("stream:\n%s", text)
	}
	close(n.stopping)
	readUntil("event: bye\ndata: {\"reason\":")
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 2 {
		t.Errorf("after the last event: %q, %v", rest, err)
	}
}

// TestEventsResume: Last-Event-ID counts more than the URL.
func TestEventsResume(t *testing.T) {
	n := newStored(t)
	for i := range 3 {
		n.store(t, fmt.Sprintf("/media/acc/%d.wav", i))
	}
	all := n.do(t, "GET", "/v1/events?follow=false", "", "Authorization: Bearer "+testToken)
	first, _, _ := strings.Cut(all.body[strings.Index(all.body, "id: ")+4:], "\n")
	a := n.do(t, "GET", "/v1/events?follow=false&after=oldest", "", "Authorization: Bearer "+testToken,
		"Last-Event-ID: "+first)
	if strings.Contains(a.body, `"0.wav"`) || !strings.Contains(a.body, `"1.wav"`) ||
		!strings.HasSuffix(a.body, "event: end\ndata: {}\n\n") {
		t.Errorf("resumed after %s:\n%s", first, a.body)
	}
}

// TestEventsBounded: a node follows so many and no more.
func TestEventsBounded(t *testing.T) {
	n := newStored(t)
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for range followersMax {
		var d net.Dialer
		c, err := d.DialContext(t.Context(), "tcp", n.addr)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		if _, err := fmt.Fprintf(c, "GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n",
			testToken); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 64)); err != nil {
			t.Fatal(err)
		}
	}
	a := n.do(t, "GET", "/v1/events", "", "Authorization: Bearer "+testToken)
	if a.status != 503 || a.code() != "limit" {
		t.Errorf("one more: %d %s", a.status, a.body)
	}
	close(n.stopping)
}
