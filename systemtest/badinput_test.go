package systemtest

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	// goroutineSlack is what comes and goes by itself: the connections that raft
	// keeps for each of nine groups, two goroutines each. It is less than the
	// number of requests, so that a leak of one goroutine each is seen.
	goroutineSlack = 40
	// memorySlack is what three nodes may grow by under bad input: less than one
	// of the bodies that they must not keep.
	memorySlack = 192 << 20
	// uploadMax is the limit of bodies in this test.
	uploadMax = 1 << 20

	mGet    = http.MethodGet
	mPut    = http.MethodPut
	mPost   = http.MethodPost
	mDelete = http.MethodDelete
)

// hasty are settings under which patience is seconds.
func hasty() settings {
	return settings{
		"http.upload_bytes_max":    `"1MiB"`,
		"http.upload_stall_max":    `"2s"`,
		"http.listener_stall_max":  `"10s"`,
		"shout.source_silence_max": `"2s"`,
		"shout.listener_stall_max": `"10s"`,
		"recordings.bytes_max":     `"1MiB"`,
	}
}

// TestBadInput sends what no well-meaning client sends. Each request must get
// its status, playback paths an empty body, and nothing may be left behind.
func TestBadInput(t *testing.T) { //nolint:tparallel // the parts share one cluster and follow one another
	t.Parallel()
	c := Start(t, 3, hasty())
	wav := noise(64<<10, 1)
	c.Node(0).put("acme", "fine.wav", wav)
	c.Node(0).put("acme", "fine.mp3", phone().frames(100, 1))
	// Once before counting, for all that is made when it is needed first.
	t.Run("warm up", func(t *testing.T) {
		testAccess(t, c.For(t))
		testBodies(t, c.For(t))
	})
	before := c.Usage()
	c.noGrowth(goroutineSlack, func() {
		t.Run("access", func(t *testing.T) { testAccess(t, c.For(t)) })
		t.Run("names", func(t *testing.T) { testNames(t, c.For(t)) })
		t.Run("bodies", func(t *testing.T) { testBodies(t, c.For(t)) })
		t.Run("heads", func(t *testing.T) { testHeads(t, c.For(t)) })
		t.Run("sources", func(t *testing.T) { testSources(t, c.For(t)) })
		t.Run("deaf listeners", func(t *testing.T) { testDeafListeners(t, c.For(t)) })
	})
	if grown := c.Usage().rss - before.rss; grown > memorySlack {
		t.Errorf("the nodes have grown by %d MiB", grown>>20)
	}
	for _, n := range c.nodes {
		if got, want := fmt.Sprint(n.list("acme", "", 100)), "[fine.mp3 fine.wav]"; got != want {
			t.Errorf("node %d lists %s, want %s", n.index+1, got, want)
		}
	}
}

// request is one that has to be refused.
type request struct {
	name, method, path string
	body               []byte
	header             []string
	status             int
}

// refused sends the requests to one node after the other.
func refused(t *testing.T, c *Cluster, requests []request) {
	t.Helper()
	for i, r := range requests {
		n := c.Node(i)
		resp, body, err := n.do(t.Context(), r.method, r.path, r.body, r.header...)
		if err != nil {
			t.Errorf("%s: %v", r.name, err)
			continue
		}
		if resp.StatusCode != r.status {
			t.Errorf("%s: status %d, want %d: %.200s", r.name, resp.StatusCode, r.status, body)
		}
		playing := r.method == mGet && !strings.HasPrefix(r.path, "/v1/")
		if playing && len(body) > 0 {
			t.Errorf("%s: a player gets a body: %.200q", r.name, body)
		}
		if !playing && !bytes.Contains(body, []byte(`"code":`)) && r.status != http.StatusNotModified {
			t.Errorf("%s: no error code in %.200q", r.name, body)
		}
	}
}

func testAccess(t *testing.T, c *Cluster) {
	t.Helper()
	none, wrong := []string{"Authorization", ""}, []string{"Authorization", "Bearer wrong-token-0123456789"}
	// foo:bar is good for what account pbx records, foo:baz for nothing.
	login := []string{"Authorization", "Basic Zm9vOmJhcg=="}
	wrongLogin := []string{"Authorization", "Basic Zm9vOmJheg=="}
	wav := noise(4<<10, 2)
	refused(t, c, []request{
		{"put without token", mPut, "/media/acme/no.wav", wav, none, 401},
		{"put with a wrong token", mPut, "/media/acme/no.wav", wav, wrong, 401},
		{"put with a wrong login", mPut, "/media/acme/no.wav", wav, wrongLogin, 401},
		{"put with another's login", mPut, "/media/acme/no.wav", wav, login, 403},
		{"list with a login", mGet, "/v1/accounts/pbx/media", nil, login, 401},
		{"delete with a login", mDelete, "/media/pbx/x.wav", nil, login, 401},
		{"delete without token", mDelete, "/media/acme/fine.wav", nil, none, 401},
		{"delete with a wrong token", mDelete, "/media/acme/fine.wav", nil, wrong, 401},
		{"list without token", mGet, "/v1/accounts/acme/media", nil, none, 401},
		{"lookup without token", mGet, "/v1/lookup?account=acme&name=fine.wav", nil, none, 401},
		{"ticket without token", mPost, "/v1/recordings", []byte(`{"account":"acme"}`), none, 401},
		{"cluster without token", mGet, "/v1/cluster", nil, none, 401},
		{"unknown path without token", mGet, "/v1/nothing", nil, none, 401},
		{"unknown path", mGet, "/v1/nothing", nil, nil, 404},
		{"forged play token", mGet, "/play/Zm9yZ2VkZm9yZ2VkZm9yZ2Vk/fine.wav", nil, nil, 403},
		{"play token of 10 kB", mGet, "/play/" + strings.Repeat("A", 10<<10) + "/fine.wav", nil, nil, 403},
		{"missing item", mGet, "/media/acme/none.wav", nil, nil, 404},
		{"missing account", mGet, "/media/nobody/fine.wav", nil, nil, 404},
		{"missing recording", mGet, "/v1/recordings/none", nil, nil, 404},
	})
}

func testNames(t *testing.T, c *Cluster) {
	t.Helper()
	wav := noise(4<<10, 3)
	long := strings.Repeat("x", 10<<10)
	var requests []request
	for name, id := range map[string]string{
		"dots":               "a/../b.wav",
		"encoded dots":       "a/%2e%2e/b.wav",
		"encoded slash dots": "..%2f..%2fetc%2fpasswd",
		"NUL":                "a%00b.wav",
		"newline":            "a%0ab.wav",
		"10 kB":              long,
		"256 bytes":          strings.Repeat("y", 256),
		"bad UTF-8":          "a%ffb.wav",
		"overlong UTF-8":     "a%c0%afb.wav",
		"empty segment":      "a%2f%2fb.wav",
		"trailing slash":     "a/",
	} {
		// The id is written as it goes out: net/http cleans nothing.
		requests = append(requests,
			request{"put " + name, mPut, "/media/acme/" + id, wav, nil, 400},
			request{"get " + name, mGet, "/media/acme/" + id, nil, nil, 400})
	}
	requests = append(requests,
		request{"put to an account with spaces", mPut, "/media/a%20b/x.wav", wav, nil, 400},
		request{"put to a long account", mPut, "/media/" + strings.Repeat("a", 65) + "/x.wav", wav, nil, 400},
		request{
			"recording named dots", mPost, "/v1/recordings", []byte(`{"account":"acme","name":"../x"}`), nil, 400,
		},
		request{"recording of no account", mPost, "/v1/recordings", []byte(`{"name":"x"}`), nil, 400},
		request{
			"recording with an unknown field", mPost, "/v1/recordings", []byte(`{"account":"a","nme":"x"}`), nil, 400,
		},
		request{"recording that is no JSON", mPost, "/v1/recordings", []byte(`{"account":`), nil, 400},
		request{
			"store of a missing recording", mPost, "/v1/recordings/none/store",
			[]byte(`{"account":"a","id":"b"}`), nil, 404,
		},
		request{"a page too large", mGet, "/v1/accounts/acme/media?limit=1001", nil, nil, 400},
	)
	refused(t, c, requests)
}

func testBodies(t *testing.T, c *Cluster) {
	t.Helper()
	garbage := bytes.Repeat([]byte("this is no sound at all\n"), 4096)
	refused(t, c, []request{
		{"empty", mPut, "/media/acme/empty.wav", []byte{}, nil, 415},
		{"text", mPut, "/media/acme/text.mp3", garbage, nil, 415},
		{"too large", mPut, "/media/acme/large.wav", noise(uploadMax+1, 4), nil, 413},
		{"gzip", mPut, "/media/acme/zip.wav", noise(4<<10, 5), []string{"Content-Encoding", "gzip"}, 415},
		{"a part", mPut, "/media/acme/part.wav", noise(4<<10, 6), []string{"Content-Range", "bytes 0-1/9"}, 400},
		{"a wrong version", mPut, "/media/acme/fine.wav", noise(4<<10, 7), []string{"If-Match", `"x"`}, 412},
		{"what is there", mPut, "/media/acme/fine.wav", noise(4<<10, 8), []string{"If-None-Match", "*"}, 412},
	})
	t.Run("too large, chunked", func(t *testing.T) {
		n := c.Node(1)
		conn := dialRawHTTP(t, n)
		head := fmt.Sprintf("PUT /media/acme/large.wav HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"+
			"Transfer-Encoding: chunked\r\n\r\n", testToken)
		var body bytes.Buffer
		body.WriteString(head)
		for piece := range 20 {
			p := noise(64<<10, 9)
			if piece > 0 {
				p = p[wavHeaderBytes:]
			}
			fmt.Fprintf(&body, "%x\r\n%s\r\n", len(p), p)
		}
		go func() { _, _ = conn.Write(body.Bytes()) }() // the answer may come before its end
		wantAnswer(t, conn, 413)
	})
	t.Run("half sent and closed", func(t *testing.T) {
		conn := dialRawHTTP(t, c.Node(2))
		sendHalf(t, conn, "half.wav", false)
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		wantAnswer(t, conn, 400)
	})
	t.Run("half sent and silent", func(t *testing.T) {
		conn := dialRawHTTP(t, c.Node(0))
		sendHalf(t, conn, "silent.wav", false)
		wantAnswer(t, conn, 408)
	})
	t.Run("half a chunked body and closed", func(t *testing.T) {
		conn := dialRawHTTP(t, c.Node(1))
		sendHalf(t, conn, "chunks.wav", true)
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		wantAnswer(t, conn, 400)
	})
	for _, id := range []string{"large.wav", "half.wav", "silent.wav", "chunks.wav", "empty.wav", "text.mp3"} {
		for _, n := range c.nodes {
			n.call(mGet, documentPath("acme", id), nil, http.StatusNotFound, nil)
		}
	}
	t.Run("liars", func(t *testing.T) { testLiars(t, c.For(t)) })
}

// Goal: a WAV that lies about its size and an MP3 amid garbage are stored with
// the truth in their documents.
func testLiars(t *testing.T, c *Cluster) {
	t.Helper()
	lies := noise(16044, 10)
	copy(lies[40:], []byte{0xff, 0xff, 0xff, 0x7f})
	copy(lies[4:], []byte{0xff, 0xff, 0xff, 0x7f})
	doc := c.Node(0).put("liars", "size.wav", lies)
	if doc.DurationMS != 1000 || doc.SHA256 != hashOf(lies) {
		t.Errorf("a WAV of one second that claims two days is %+v", doc)
	}
	torn := append(phone().frames(100, 2), 0xff, 0xe3, 0x28, 0xc4, 1, 2, 3)
	torn = append(torn, bytes.Repeat([]byte("garbage "), 100)...)
	doc = c.Node(1).put("liars", "torn.mp3", torn)
	duration := time.Duration(doc.DurationMS) * time.Millisecond
	near(t, "duration of a torn MP3", duration, 7200*time.Millisecond, mp3Frame)
	c.plays("/media/liars/size.wav", lies)
	c.plays("/media/liars/torn.mp3", torn)
	for _, id := range []string{"size.wav", "torn.mp3"} {
		c.Node(2).call(mDelete, "/media/liars/"+id, nil, http.StatusNoContent, nil)
	}
}

// dialRawHTTP connects to a node's HTTP port.
func dialRawHTTP(t *testing.T, n *Node) *net.TCPConn {
	t.Helper()
	return dialTCP(t, strings.TrimPrefix(n.HTTP, "http://"))
}

func dialTCP(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(toolWait)); err != nil {
		t.Fatal(err)
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		t.Fatalf("connection is a %T", conn)
	}
	return tcp
}

// sendHalf begins an upload and sends half of it.
func sendHalf(t *testing.T, conn *net.TCPConn, id string, chunked bool) {
	t.Helper()
	p := noise(64<<10, 11)
	framing, before := fmt.Sprintf("Content-Length: %d", 2*len(p)), ""
	if chunked {
		framing, before = "Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n", len(p))
	}
	_, err := fmt.Fprintf(conn,
		"PUT /media/acme/%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s\r\n\r\n%s%s",
		id, testToken, framing, before, p)
	if err != nil {
		t.Fatal(err)
	}
}

// wantAnswer reads an answer's head. A connection that just ends is no answer.
func wantAnswer(t *testing.T, conn net.Conn, status int) {
	t.Helper()
	head, err := readHead(conn)
	if err != nil {
		t.Errorf("no answer: %q, %v", head, err)
		return
	}
	if a, err := parseAnswer(head); err != nil || a.status != status {
		t.Errorf("status %d, want %d: %v", a.status, status, err)
	}
}

func testHeads(t *testing.T, c *Cluster) {
	t.Helper()
	lines, megabyte := strings.Repeat("X-Header: value\r\n", 10000), strings.Repeat("y", 1<<20)
	for _, port := range []struct {
		name, addr string
		tooMany    []int
	}{
		{"http", strings.TrimPrefix(c.Node(0).HTTP, "http://"), []int{431}},
		{"shout", c.Node(1).Shout, []int{431, 400}},
	} {
		for _, r := range []struct {
			name, head string
			statuses   []int
		}{
			{"10,000 header lines", "GET /acme/fine.mp3 HTTP/1.1\r\nHost: x\r\n" + lines + "\r\n", port.tooMany},
			{
				"a header of 1 MB", "GET /acme/x HTTP/1.1\r\nHost: x\r\nX: " + megabyte + "\r\n\r\n", port.tooMany,
			},
			{
				"a target of 1 MB", "GET /" + megabyte + " HTTP/1.1\r\nHost: x\r\n\r\n", []int{414, 431},
			},
			{"no request at all", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n", []int{400}},
		} {
			t.Run(port.name+" "+r.name, func(t *testing.T) {
				conn := dialTCP(t, port.addr)
				go func() { _, _ = io.WriteString(conn, r.head) }() // the answer may come before its end
				head, err := readHead(conn)
				if err != nil {
					t.Fatalf("no answer: %q, %v", head, err)
				}
				a, err := parseAnswer(head)
				if err != nil {
					t.Fatal(err)
				}
				if slices.Contains(r.statuses, a.status) {
					return
				}
				t.Errorf("status %d, want one of %v", a.status, r.statuses)
			})
		}
	}
}

// sourceHead is the head of an authenticated SOURCE.
func sourceHead(mount, user, password string) string {
	return fmt.Sprintf("SOURCE %s HTTP/1.0\r\nAuthorization: Basic %s\r\nContent-Type: audio/mpeg\r\n\r\n",
		mount, base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
}

func testSources(t *testing.T, c *Cluster) {
	t.Helper()
	ask := func(t *testing.T, n *Node, head string, status int) net.Conn {
		t.Helper()
		conn := dialTCP(t, n.Shout)
		if _, err := io.WriteString(conn, head); err != nil {
			t.Fatal(err)
		}
		wantAnswer(t, conn, status)
		return conn
	}
	rec := c.Node(0).ticket("acme", "once.mp3")
	user, token, mount := rec.login(t)
	for _, r := range []struct {
		name, head string
		status     int
	}{
		{"wrong password", sourceHead(mount, user, "wrong"), 401},
		{"wrong user", sourceHead(mount, "nobody", token), 401},
		{"no credentials", "SOURCE /once.mp3 HTTP/1.0\r\n\r\n", 401},
		{"an unknown mount", sourceHead("/other.mp3", user, token), 404},
		{"wrong password of an account", sourceHead("/x.mp3", "foo", "wrong"), 401},
		{"a mount with dots", sourceHead("/../x.mp3", "foo", "bar"), 400},
		{"a mount with NUL", sourceHead("/a%00b.mp3", "foo", "bar"), 400},
		{"bad UTF-8", sourceHead("/a%ff.mp3", "foo", "bar"), 400},
		{"a bad escape", sourceHead("/a%zz.mp3", "foo", "bar"), 400},
		{"a listener of nothing", "GET /acme/none.mp3 HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		{"an unknown method", "BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n", 501},
	} {
		t.Run(r.name, func(t *testing.T) { ask(t, c.Node(0), r.head, r.status) })
	}
	if state := c.Node(0).recording(rec.ID).State; state != "waiting" {
		t.Errorf("after refused sources the ticket is %s", state)
	}
	t.Run("used twice", func(t *testing.T) {
		first := ask(t, c.Node(0), sourceHead(mount, user, token), 200)
		// Through another node, which may have heard of the ticket only.
		ask(t, c.Node(1), sourceHead(mount, user, token), 403)
		ask(t, c.Node(0), sourceHead(mount, user, token), 403)
		if _, err := first.Write(phone().frames(10, 3)); err != nil {
			t.Fatal(err)
		}
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		c.Node(2).waitState(rec.ID, "sealed")
		ask(t, c.Node(2), sourceHead(mount, user, token), 403)
		c.Node(2).call(mPost, "/v1/recordings/"+rec.ID+"/discard", nil, http.StatusNoContent, nil)
	})
	t.Run("silent", func(t *testing.T) {
		rec := c.Node(1).ticket("acme", "silent.mp3")
		user, token, mount := rec.login(t)
		conn := ask(t, c.Node(1), sourceHead(mount, user, token), 200)
		want := phone().frames(10, 4)
		if _, err := conn.Write(want); err != nil {
			t.Fatal(err)
		}
		if got := c.Node(0).waitState(rec.ID, "truncated"); got.SHA256 != hashOf(want) {
			t.Errorf("kept %d bytes of %d", got.Size, len(want))
		}
		c.Node(0).call(mPost, "/v1/recordings/"+rec.ID+"/discard", nil, http.StatusNoContent, nil)
	})
	t.Run("reset", func(t *testing.T) {
		rec := c.Node(2).ticket("acme", "reset.mp3")
		user, token, mount := rec.login(t)
		conn := ask(t, c.Node(2), sourceHead(mount, user, token), 200)
		want := phone().frames(20, 5)
		if _, err := conn.Write(want); err != nil {
			t.Fatal(err)
		}
		// A reset throws away what the server has not read yet.
		eventually(t, settleWait, "source's bytes read", func() error {
			if now := c.Node(0).recording(rec.ID); now.Size < int64(len(want)) {
				return fmt.Errorf("%d of %d bytes", now.Size, len(want))
			}
			return nil
		})
		tcp, ok := conn.(*net.TCPConn)
		if !ok {
			t.Fatalf("connection is a %T", conn)
		}
		if err := tcp.SetLinger(0); err != nil {
			t.Fatal(err)
		}
		_ = tcp.Close()
		if got := c.Node(1).waitState(rec.ID, "truncated"); got.SHA256 != hashOf(want) {
			t.Errorf("kept %d bytes of %d", got.Size, len(want))
		}
		c.Node(0).call(mPost, "/v1/recordings/"+rec.ID+"/discard", nil, http.StatusNoContent, nil)
	})
	t.Run("too long", func(t *testing.T) {
		rec := c.Node(0).ticket("acme", "long.mp3")
		user, token, mount := rec.login(t)
		conn := ask(t, c.Node(0), sourceHead(mount, user, token), 200)
		_, _ = conn.Write(phone().frames((uploadMax+64<<10)/phone().frameBytes, 6)) // may be cut off
		if got := c.Node(1).waitState(rec.ID, "truncated"); got.Size > uploadMax || got.Size < uploadMax/2 {
			t.Errorf("kept %d bytes, the limit is %d", got.Size, uploadMax)
		}
		c.Node(1).call(mPost, "/v1/recordings/"+rec.ID+"/discard", nil, http.StatusNoContent, nil)
	})
}

// Goal: listeners that never read are dropped in the end, and until then cost
// no memory to speak of.
func testDeafListeners(t *testing.T, c *Cluster) {
	t.Helper()
	const deaf = 50
	c.Node(0).put("deaf", "item.mp3", phone().frames(uploadMax/phone().frameBytes, 7))
	before := c.Usage()
	var conns []*net.TCPConn
	for i := range deaf {
		addr, path := c.Node(i).Shout, "/deaf/item.mp3"
		if i%2 == 1 {
			addr, path = strings.TrimPrefix(c.Node(i).HTTP, "http://"), "/media"+path
		}
		conn := dialTCP(t, addr)
		if err := conn.SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	if grown := c.Usage().rss - before.rss; grown > memorySlack {
		t.Errorf("%d deaf listeners cost %d MiB", deaf, grown>>20)
	}
	// Dropped: what comes out of the connection in the end is not the whole item.
	pause(t.Context(), 14*time.Second) // listener_stall_max and some
	for i, conn := range conns {
		n, err := io.Copy(io.Discard, conn)
		if n >= uploadMax-uploadMax%int64(phone().frameBytes) {
			t.Errorf("listener %d was not dropped: it got %d bytes, %v", i, n, err)
		}
	}
	c.Node(0).call(mDelete, "/media/deaf/item.mp3", nil, http.StatusNoContent, nil)
}
