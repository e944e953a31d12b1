package shoutd

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"carillon/audio"
	"carillon/audio/mpeg"
	"carillon/internal/audience"
	"carillon/internal/ring"
	"carillon/library"
)

func noise(n int) []byte {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(p)
	return p
}

func (c *client) get(target string, headers ...string) reply {
	c.t.Helper()
	c.send("GET " + target + " HTTP/1.1\r\nHost: x\r\n" + strings.Join(headers, "") + "\r\n")
	resp, err := http.ReadResponse(c.br, &http.Request{Method: methodGet})
	if err != nil {
		c.t.Fatalf("answer: %v", err)
	}
	c.t.Cleanup(func() { _ = resp.Body.Close() })
	return reply{resp}
}

func (d *door) listenersLive() int { return int(testutil.ToFloat64(d.metrics.listenersLive)) }

// live starts a source on acme/call.mp3 and returns its connection and session.
func (d *door) live(tb testing.TB) (*client, *fakeSession) {
	tb.Helper()
	c := d.dial(tb)
	c.send("SOURCE /acme/call.mp3 HTTP/1.0\r\n" + authorization + "ice-name: Kim's call\r\n\r\n")
	c.exactly(answerSource)
	return c, d.session(tb)
}

// TestPlayStored asks for an item as mod_shout does and as others may.
func TestPlayStored(t *testing.T) {
	d := openDoor(t, Config{})
	body := noise(300_000)
	d.lib.put("greeting", audio.FormatMP3, body)
	d.lib.put("moh/jazz.mp3", audio.FormatMP3, body)
	d.lib.put("noext.v2", audio.FormatMP3, body)
	for _, target := range []string{
		"/acme/greeting.mp3", "/acme/greeting", "/acme/greeting.wav", "/acme/moh/jazz.mp3",
		"/acme/noext.v2", "/acme/noext.v2.mp3", "/acme/moh%2Fjazz.mp3?token=a%20b&x=1",
	} {
		c := d.dial(t)
		resp := c.get(target)
		got, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("%s: %d bytes, %v", target, len(got), err)
		}
		if resp.Proto != "HTTP/1.1" || resp.StatusCode != http.StatusOK || resp.ContentLength != int64(len(body)) ||
			resp.Header.Get("Content-Type") != "audio/mpeg" || resp.Header.Get("Icy-Metaint") != "" {
			t.Errorf("%s: %+v", target, resp)
		}
		c.ended()
	}

	c := d.dial(t)
	c.send(file(t, "play.txt"))
	resp, got := c.answer(methodGet)
	if resp.StatusCode != http.StatusOK || got != string(body) {
		t.Errorf("mod_shout: %+v", resp)
	}

	c = d.dial(t)
	c.send("GET /acme/greeting.mp3 HTTP/1.0\r\n\r\n")
	if resp, _ := c.answer(methodGet); resp.Proto != "HTTP/1.0" || resp.StatusCode != http.StatusOK {
		t.Errorf("HTTP/1.0: %+v", resp)
	}

	c = d.dial(t)
	c.send("HEAD /acme/greeting.mp3 HTTP/1.1\r\n\r\n")
	if resp, _ := c.answer(methodHead); resp.ContentLength != int64(len(body)) {
		t.Errorf("HEAD: %+v", resp)
	}
	c.ended()
}

func TestPlayRefusals(t *testing.T) {
	d := openDoor(t, Config{})
	d.lib.put("menu.wav", audio.FormatWAV, noise(100))
	for target, status := range map[string]int{
		"/":                     statusFor(library.ErrNotFound),
		"/acme":                 statusFor(library.ErrNotFound),
		"/acme/":                statusFor(library.ErrNotFound),
		"/acme/none.mp3":        statusFor(library.ErrNotFound),
		"/acme/.mp3":            statusFor(library.ErrNotFound),
		"/admin/stats":          statusFor(library.ErrNotFound),
		"/acme/menu.wav":        statusFor(library.ErrNoForm),
		"/acme/menu.wav.mp3":    statusFor(library.ErrNoForm),
		"/acme/%":               http.StatusBadRequest,
		"/" + noiseName(10<<10): http.StatusRequestURITooLong,
	} {
		for _, method := range []string{methodGet, methodHead} {
			c := d.dial(t)
			c.send(method + " " + target + " HTTP/1.1\r\nHost: x\r\n\r\n")
			c.refused(method, status)
		}
	}
	d.allow = func(netip.Addr) bool { return false }
	c := d.dial(t)
	c.send("GET /acme/menu.wav HTTP/1.1\r\n\r\n")
	c.refused(methodGet, http.StatusForbidden)
}

func noiseName(n int) string { return strings.Repeat("n", n) }

// TestPlayLive: a listener gets the recording from its first byte, follows it
// and ends with it; another one starts now.
func TestPlayLive(t *testing.T) {
	d := openDoor(t, Config{})
	src, s := d.live(t)
	first, rest := noise(20_000), []byte("and the rest")
	src.send(string(first))
	until(t, "first bytes", func() bool { return s.count() == len(first) })

	start, now := d.dial(t), d.dial(t)
	a := start.get("/acme/call.mp3")
	b := now.get("/acme/call.mp3?from=now")
	if a.ContentLength != -1 || !a.Close || a.Header.Get("Icy-Name") != "Kim's call" {
		t.Errorf("head: %+v", a)
	}
	got := make([]byte, len(first))
	if _, err := io.ReadFull(a.Body, got); err != nil || !bytes.Equal(got, first) {
		t.Fatal("burst:", err)
	}
	until(t, "both listen", func() bool { return d.listenersLive() == 2 })
	src.send(string(rest))
	_ = src.CloseWrite()
	if got, err := io.ReadAll(a.Body); err != nil || !bytes.Equal(got, rest) {
		t.Errorf("rest: %q, %v", got, err)
	}
	const burst = 6000 + mpeg.FrameBytesMax // three seconds of 16 kbit/s
	want := append(bytes.Clone(first[len(first)-burst:]), rest...)
	if got, err := io.ReadAll(b.Body); err != nil || !bytes.Equal(got, want) {
		t.Errorf("from now: %d bytes, want %d, %v", len(got), len(want), err)
	}
	s.endsAs(t, library.EndedClean, string(first)+string(rest))

	c := d.dial(t) // and after its end it has a length
	resp := c.get("/acme/call.mp3?from=now")
	if body, err := io.ReadAll(resp.Body); err != nil || resp.ContentLength != int64(len(body)) ||
		len(body) != len(first)+len(rest) {
		t.Errorf("ended recording: %+v, %d bytes, %v", resp, len(body), err)
	}
}

// TestLiveOutlivesHeadWait: the wait for a head is not one for what follows. A
// silent connection that is opened after the listener tells when it has passed.
func TestLiveOutlivesHeadWait(t *testing.T) {
	d := openDoor(t, Config{HeadWait: 2 * time.Second})
	src, s := d.live(t)
	first, rest := noise(20_000), []byte("and the rest")
	src.send(string(first))
	until(t, "first bytes", func() bool { return s.count() == len(first) })
	r := d.dial(t).get("/acme/call.mp3")
	silent := d.dial(t)
	silent.ended()
	if d.listenersLive() != 1 {
		t.Fatal("the listener was dropped")
	}
	src.send(string(rest))
	_ = src.CloseWrite()
	got, err := io.ReadAll(r.Body)
	if err != nil || string(got) != string(first)+string(rest) {
		t.Errorf("heard %d bytes, %v; want %d", len(got), err, len(first)+len(rest))
	}
}

// TestLead: the head comes at once, the sound of a young recording when there
// is enough of it.
func TestLead(t *testing.T) {
	d := openDoor(t, Config{})
	src, s := d.live(t)
	_, sound := split(t, file(t, "source.bin"))
	const enough = 6000 // three seconds of 16 kbit/s
	src.send(sound[:enough-1])
	until(t, "bytes", func() bool { return s.count() == enough-1 })
	c := d.dial(t)
	resp := c.get("/acme/call.mp3")
	_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := resp.Body.Read(make([]byte, 1)); n != 0 || !isTimeout(err) {
		t.Fatalf("sound without a lead: %d, %v", n, err)
	}
	_ = c.SetReadDeadline(time.Now().Add(testWait))
	src.send(sound[enough-1:])
	_ = src.CloseWrite()
	if got, err := io.ReadAll(c.br); err != nil || string(got) != sound {
		t.Errorf("got %d bytes of %d, %v", len(got), len(sound), err)
	}
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// TestShortRecordingIsPlayed: one that ends before the lead is played at its end.
func TestShortRecordingIsPlayed(t *testing.T) {
	d := openDoor(t, Config{})
	src, _ := d.live(t)
	src.send("abc")
	c := d.dial(t)
	resp := c.get("/acme/call.mp3")
	_ = src.CloseWrite()
	if got, err := io.ReadAll(resp.Body); err != nil || string(got) != "abc" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestListenerLeaves: an end of a listener shows at once, although nothing is
// written to it.
func TestListenerLeaves(t *testing.T) {
	for _, linger := range []int{-1, 0} { // FIN, reset
		d := openDoor(t, Config{})
		d.live(t)
		c := d.dial(t)
		c.get("/acme/call.mp3")
		until(t, "a listener", func() bool { return d.listenersLive() == 1 })
		_ = c.SetLinger(linger)
		_ = c.Close()
		until(t, "no listener", func() bool { return d.listenersLive() == 0 })
	}
}

// TestCloseEndsListeners, quiet and blocked ones.
func TestCloseEndsListeners(t *testing.T) {
	d := openDoor(t, Config{})
	d.lib.put("long.mp3", audio.FormatMP3, noise(16<<20))
	d.live(t)
	d.dial(t).get("/acme/call.mp3")
	d.dial(t).get("/acme/long.mp3")
	until(t, "listeners", func() bool { return d.listenersLive() == 2 })
	began := time.Now()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 2*lingerWait {
		t.Errorf("close took %s", took)
	}
}

// TestPause: a listener that stops reading keeps its stream, and gets every
// byte, until the stall limit; one that never reads again is dropped then.
func TestPause(t *testing.T) {
	d := openDoor(t, Config{WriteStall: time.Second})
	body := noise(16 << 20)
	d.lib.put("long.mp3", audio.FormatMP3, body)
	c := d.dial(t)
	resp := c.get("/acme/long.mp3")
	var got bytes.Buffer
	if _, err := io.CopyN(&got, resp.Body, 100_000); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		stuck := testutil.ToFloat64(d.metrics.listenerBytes)
		timer := time.NewTimer(600 * time.Millisecond)
		<-timer.C
		if testutil.ToFloat64(d.metrics.listenerBytes) == stuck && stuck == float64(len(body)) {
			t.Fatal("the kernel took it all: this shows nothing")
		}
		if _, err := io.CopyN(&got, resp.Body, 1<<20); err != nil {
			t.Fatal("after a pause:", err)
		}
	}
	if _, err := got.ReadFrom(resp.Body); err != nil || !bytes.Equal(got.Bytes(), body) {
		t.Fatal("differs:", err)
	}

	never := d.dial(t)
	never.get("/acme/long.mp3")
	began := time.Now()
	until(t, "a listener", func() bool { return d.listenersLive() > 0 })
	until(t, "the drop", func() bool { return d.listenersLive() == 0 })
	if took := time.Since(began); took < time.Second {
		t.Errorf("dropped after %s", took)
	}
}

// TestICYMetadata takes the stream apart again.
func TestICYMetadata(t *testing.T) {
	const interval = audience.ICYInterval
	for _, size := range []int{100, interval - 1, interval, interval + 1, 3*interval + 5, 4 << 20} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			d := openDoor(t, Config{})
			body := noise(size)
			d.lib.put("a.mp3", audio.FormatMP3, body)
			c := d.dial(t)
			resp := c.get("/acme/a.mp3", "Icy-MetaData: 1\r\n")
			if resp.Header.Get("Icy-Metaint") != strconv.Itoa(audience.ICYInterval) || resp.ContentLength != -1 {
				t.Fatalf("%+v", resp)
			}
			var sound []byte
			var titles []string
			for {
				part, err := io.ReadAll(io.LimitReader(resp.Body, audience.ICYInterval))
				if err != nil {
					t.Fatal(err)
				}
				sound = append(sound, part...)
				if len(part) < audience.ICYInterval {
					break
				}
				var units [1]byte
				if _, err := io.ReadFull(resp.Body, units[:]); err != nil {
					t.Fatal("no block after a full interval:", err)
				}
				text := make([]byte, int(units[0])*16)
				if _, err := io.ReadFull(resp.Body, text); err != nil {
					t.Fatal(err)
				}
				titles = append(titles, strings.TrimRight(string(text), "\x00"))
			}
			want := make([]string, size/audience.ICYInterval)
			if len(want) > 0 {
				want[0] = "StreamTitle='It’s a.mp3';"
			}
			if diff := cmp.Diff(want, append([]string{}, titles...)); diff != "" {
				t.Error(diff)
			}
			if !bytes.Equal(sound, body) {
				t.Error("sound differs")
			}
		})
	}
}

func TestICYBlockIsBounded(t *testing.T) {
	b := audience.ICYBlock(strings.Repeat("'é\x00", 3000))
	if len(b) != 1+int(b[0])*16 || !bytes.Contains(b, []byte("';")) {
		t.Errorf("%d bytes, units %d", len(b), b[0])
	}
}

// TestHeadCannotBeSplit: a document's name cannot add a header.
func TestHeadCannotBeSplit(t *testing.T) {
	s := &stream{title: "a\r\nX-Evil: 1", size: 5}
	if head := string(s.head(&request{http11: true})); strings.Contains(head, "\nX-Evil") {
		t.Errorf("%q", head)
	}
}

func TestConfigValidate(t *testing.T) {
	err := Config{Address: "nonsense", ConnectionsMax: -1, HeadWait: -1}.Validate()
	for _, key := range []string{"address", "connections_max", "head_wait"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s is not in %v", key, err)
		}
	}
	if err := (Config{Address: "127.0.0.1:0"}).Validate(); err != nil {
		t.Error(err)
	}
	if _, err := Open(Config{Address: "x"}, Deps{}); err == nil {
		t.Error("opened with a bad config")
	}
}

// TestManyRequests: a connection is not kept for ever.
func TestManyRequests(t *testing.T) {
	d := openDoor(t, Config{})
	c := d.dial(t)
	for i := range requestsMax {
		c.send(file(t, "options.txt"))
		if resp, _ := c.answer(methodOptions); resp.StatusCode != http.StatusOK {
			t.Fatalf("request %d: %s", i, resp.Status)
		}
	}
	c.refused(methodOptions, http.StatusBadRequest)
}

// TestPlayStation: listeners of a continuous stream join where it is, in one
// place of the audience each, and leave it.
func TestPlayStation(t *testing.T) {
	d := openDoor(t, Config{})
	hold := ring.New(1<<20, 0)
	hold.SetTitle("song")
	hold.Append(noise(10_000))
	d.lib.stations = map[string]*ring.Ring{"acme/hold": hold}
	for _, target := range []string{"/acme/hold", "/acme/hold.mp3", "/acme/hold.mp3?stream=extant&rate=8000"} {
		c := d.dial(t)
		resp := c.get(target)
		if resp.ContentLength != -1 || resp.Header.Get("Icy-Name") != "Hold" ||
			resp.Header.Get("Icy-Metaint") != "" {
			t.Fatalf("%s: %+v", target, resp)
		}
		until(t, "a listener", func() bool { return d.lib.tuned.Load() == 1 && d.listenersLive() == 1 })
		sound := noise(5000)
		hold.Append(sound)
		got := make([]byte, len(sound))
		if _, err := io.ReadFull(resp.Body, got); err != nil || !bytes.Equal(got, sound) {
			t.Fatal(err)
		}
		_ = c.Close()
		until(t, "no listener", func() bool {
			hold.Append([]byte{0})
			return d.lib.tuned.Load() == 0 && d.listenersLive() == 0
		})
	}
	c := d.dial(t)
	c.send("GET /acme/hold.mp3?stream=other HTTP/1.1\r\n\r\n")
	c.refused(methodGet, http.StatusBadRequest)
	c = d.dial(t)
	c.send("GET /acme/hold.mp3?gain=99 HTTP/1.1\r\n\r\n")
	c.refused(methodGet, http.StatusBadRequest)
}

// TestListenersOfOneMount: beyond the limit they are refused with an empty body.
func TestListenersOfOneMount(t *testing.T) {
	d := openDoor(t, Config{})
	hold := ring.New(1<<10, 0)
	d.lib.stations = map[string]*ring.Ring{"acme/hold": hold}
	var leave []func()
	for range testMountMax {
		l, err := d.audience.Admit("acme/hold")
		if err != nil {
			t.Fatal(err)
		}
		leave = append(leave, l)
	}
	c := d.dial(t)
	c.send("GET /acme/hold.mp3 HTTP/1.1\r\n\r\n")
	c.refused(methodGet, http.StatusServiceUnavailable)
	for _, l := range leave {
		l()
	}
	d.dial(t).get("/acme/hold.mp3")
}

// TestLongRecordingIsCaughtUp: who begins at the start of a recording that is
// longer than what its listeners share hears every byte, metadata included.
func TestLongRecordingIsCaughtUp(t *testing.T) {
	d := openDoor(t, Config{})
	src, s := d.live(t)
	long := noise(300_000)
	src.send(string(long))
	until(t, "sound", func() bool { return s.count() == len(long) })
	d.dial(t).get("/acme/call.mp3?from=now") // makes the feed begin late
	until(t, "a listener", func() bool { return d.listenersLive() == 1 })
	plain, icy := d.dial(t), d.dial(t)
	a, b := plain.get("/acme/call.mp3"), icy.get("/acme/call.mp3", "Icy-MetaData: 1\r\n")
	until(t, "listeners", func() bool { return d.listenersLive() == 3 })
	rest := noise(30_000)
	src.send(string(rest))
	_ = src.CloseWrite()
	want := append(bytes.Clone(long), rest...)
	if got, err := io.ReadAll(a.Body); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
	}
	raw, err := io.ReadAll(b.Body)
	if err != nil {
		t.Fatal(err)
	}
	var sound []byte
	for len(raw) > audience.ICYInterval {
		sound = append(sound, raw[:audience.ICYInterval]...)
		raw = raw[audience.ICYInterval:]
		raw = raw[1+16*int(raw[0]):]
	}
	if sound = append(sound, raw...); !bytes.Equal(sound, want) {
		t.Errorf("with metadata: %d bytes of %d", len(sound), len(want))
	}
}

// TestLiveGain: a recording in progress is louder in the heads of its frames, for
// who hears it from the start, with the others, or joins late; and it is not for
// who did not ask.
func TestLiveGain(t *testing.T) {
	const dB = 12
	d := openDoor(t, Config{})
	spoken, err := os.ReadFile(filepath.Join("..", "audio", "testdata", "freeswitch", "rec-icecast.mp3"))
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	louder := audio.NewGainWriter(&want, dB)
	whole := bytes.Repeat(spoken, 1+100_000/len(spoken)) // more than is shared
	if _, err := louder.Write(whole); err != nil || louder.Flush() != nil {
		t.Fatal(err)
	}
	if bytes.Equal(want.Bytes(), whole) || want.Len() != len(whole) {
		t.Fatalf("%d bytes made of %d", want.Len(), len(whole))
	}
	src, s := d.live(t)
	src.send(string(whole[:50_000]))
	until(t, "sound", func() bool { return s.count() == 50_000 })
	first := d.dial(t).get("/acme/call.mp3?gain=12&from=now") // makes the feed begin late
	until(t, "a listener", func() bool { return d.listenersLive() == 1 })
	start, plain := d.dial(t).get("/acme/call.mp3?gain=12"), d.dial(t).get("/acme/call.mp3")
	until(t, "listeners", func() bool { return d.listenersLive() == 3 })
	src.send(string(whole[50_000:]))
	_ = src.CloseWrite()
	if got, err := io.ReadAll(start.Body); err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("from the start: %d bytes of %d, %v", len(got), want.Len(), err)
	}
	if got, err := io.ReadAll(plain.Body); err != nil || !bytes.Equal(got, whole) {
		t.Errorf("as it is: %d bytes of %d, %v", len(got), len(whole), err)
	}
	got, err := io.ReadAll(first.Body)
	if err != nil || len(got) < len(whole)-50_000 || !bytes.HasSuffix(want.Bytes(), got) {
		t.Errorf("from now: %d bytes, %v", len(got), err)
	}
}

// TestLogHidesTokens: what opens a door is not in the log.
func TestLogHidesTokens(t *testing.T) {
	d := openDoor(t, Config{})
	c := d.dial(t)
	c.send("GET /acme/none.mp3?token=s3cret HTTP/1.1\r\n\r\n")
	c.refused(methodGet, http.StatusNotFound)
	until(t, "a line", func() bool { return strings.Contains(d.log.String(), "none.mp3") })
	if strings.Contains(d.log.String(), "s3cret") {
		t.Error(d.log.String())
	}
}
