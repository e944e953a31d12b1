package shoutd

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"carillon/audio"
	"carillon/library"
)

// clientWait bounds a run of a real client.
const clientWait = 60 * time.Second

// command runs a real client and returns what it printed.
func command(t *testing.T, stdin []byte, name string, args ...string) (stdout []byte, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clientWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	if stdin != nil {
		cmd.Stdin = bytes.NewReader(stdin)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err = cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s%s", name, err, stdout, stderr.Bytes())
	}
	return stdout, err
}

func mustRun(t *testing.T, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	out, err := command(t, stdin, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// tone is an MP3 as FreeSWITCH encodes it: 8 kHz mono, 16 kbit/s, bare frames.
func tone(t *testing.T, seconds int) []byte {
	t.Helper()
	return mustRun(t, nil, "ffmpeg", toneArgs(seconds, "-f", "mp3", "-")...)
}

func toneArgs(seconds int, out ...string) []string {
	args := []string{
		"-v", "error", "-nostdin", "-f", "lavfi", "-i", fmt.Sprintf("sine=440:duration=%d", seconds),
		"-ar", "8000", "-ac", "1", "-b:a", "16k", "-write_xing", "0", "-id3v2_version", "0", "-bitexact",
	}
	return append(args, out...)
}

// TestFFmpegRecords sends by PUT with Expect and by the older SOURCE.
func TestFFmpegRecords(t *testing.T) {
	want := tone(t, 3)
	for _, legacy := range []string{"0", "1"} {
		d := openDoor(t, Config{})
		mustRun(t, nil, "ffmpeg", toneArgs(3, "-f", "mp3", "-content_type", "audio/mpeg",
			"-ice_name", "a call", "-legacy_icecast", legacy,
			fmt.Sprintf("icecast://foo:bar@%s/acme/x.mp3", d.Addr()))...)
		s := d.session(t)
		s.endsAs(t, library.EndedClean, string(want))
		if s.request.ICY["ice-name"] != "a call" || s.request.Mount != "acme/x.mp3" {
			t.Errorf("%+v", s.request)
		}
	}
}

func TestFFmpegIsRefused(t *testing.T) {
	d := openDoor(t, Config{})
	_, err := command(t, nil, "ffmpeg", toneArgs(1, "-f", "mp3", "-content_type", "audio/mpeg",
		fmt.Sprintf("icecast://foo:wrong@%s/x.mp3", d.Addr()))...)
	if err == nil || len(d.lib.claims) != 0 {
		t.Errorf("err %v, claims %d", err, len(d.lib.claims))
	}
}

const ezstreamConfig = `<?xml version="1.0" encoding="UTF-8"?>
<ezstream>
 <servers><server>
  <protocol>HTTP</protocol><hostname>%s</hostname><port>%s</port>
  <user>foo</user><password>%s</password><tls>%s</tls><reconnect_attempts>1</reconnect_attempts>
 </server></servers>
 <streams><stream>
  <mountpoint>/acme/x.mp3</mountpoint><format>MP3</format><stream_name>a call</stream_name>
 </stream></streams>
 <intakes><intake>
  <type>playlist</type><filename>%s</filename><stream_once>Yes</stream_once>
 </intake></intakes>
</ezstream>
`

// runEzstream streams one file through ezstream, which is libshout.
func runEzstream(t *testing.T, d *door, password, tls string, sound []byte) error {
	t.Helper()
	dir := t.TempDir()
	song, list, conf := filepath.Join(dir, "a.mp3"), filepath.Join(dir, "list.m3u"), filepath.Join(dir, "ez.xml")
	host, port, _ := strings.Cut(d.Addr().String(), ":")
	for name, text := range map[string]string{
		song: string(sound), list: song + "\n", conf: fmt.Sprintf(ezstreamConfig, host, port, password, tls, list),
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := command(t, nil, "ezstream", "-v", "-c", conf)
	t.Logf("ezstream: %s", out)
	return err
}

// TestEzstreamRecords: libshout asks its questions on one kept connection and
// then streams over it, byte for byte.
func TestEzstreamRecords(t *testing.T) {
	want := tone(t, 3)
	for _, tls := range []string{"May", "None"} {
		t.Run(tls, func(t *testing.T) {
			d := openDoor(t, Config{})
			if err := runEzstream(t, d, "bar", tls, want); err != nil {
				t.Fatal(err)
			}
			s := d.session(t)
			s.endsAs(t, library.EndedClean, string(want))
			if s.request.Mount != "acme/x.mp3" || s.request.ICY["ice-name"] == "" {
				t.Errorf("%+v", s.request)
			}
		})
	}
}

// TestEzstreamIsRefused: a wrong password ends at once, and does not loop.
func TestEzstreamIsRefused(t *testing.T) {
	d := openDoor(t, Config{})
	_ = runEzstream(t, d, "wrong", "May", tone(t, 1))
	if n := strings.Count(d.log.String(), "source refused"); n < 1 || n > 3 {
		t.Errorf("%d refusals:\n%s", n, d.log)
	}
}

// TestCurlRecords uploads with a length and, from a pipe, chunked.
func TestCurlRecords(t *testing.T) {
	want := tone(t, 5)
	name := filepath.Join(t.TempDir(), "a.mp3")
	if err := os.WriteFile(name, want, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{name, "-"} {
		for _, expect := range []string{"Expect: 100-continue", "Expect:"} {
			d := openDoor(t, Config{})
			out := mustRun(t, want, "curl", "-sS", "-u", "foo:bar", "-T", from, "-H", expect,
				"-w", "%{http_code}", fmt.Sprintf("http://%s/x.mp3", d.Addr()))
			if string(out) != "200" {
				t.Errorf("curl -T %s, %q: %s", from, expect, out)
			}
			d.session(t).endsAs(t, library.EndedClean, string(want))
		}
	}
}

// TestCurlIsRefused: the status arrives, whatever curl still has to send.
func TestCurlIsRefused(t *testing.T) {
	body := noise(3 << 20)
	for _, login := range []string{"foo:wrong", ""} {
		d := openDoor(t, Config{})
		args := []string{
			"-sS", "-T", "-", "-H", "Expect:", "-w", "%{http_code}", fmt.Sprintf("http://%s/x.mp3", d.Addr()),
		}
		want := "401"
		if login != "" {
			args, want = append(args, "-u", login), strconv.Itoa(statusFor(library.ErrUnauthorized))
		}
		if out := mustRun(t, body, "curl", args...); string(out) != want {
			t.Errorf("login %q: status %s, want %s", login, out, want)
		}
	}
}

func TestCurlListens(t *testing.T) {
	d := openDoor(t, Config{})
	body := noise(2 << 20)
	d.lib.put("a", audio.FormatMP3, body)
	url := fmt.Sprintf("http://%s/acme/a.mp3", d.Addr())
	if got := mustRun(t, nil, "curl", "-sSf", url); !bytes.Equal(got, body) {
		t.Errorf("%d bytes", len(got))
	}
	if got := mustRun(t, nil, "curl", "-sSf", "-0", url); !bytes.Equal(got, body) {
		t.Errorf("HTTP/1.0: %d bytes", len(got))
	}
	if got := mustRun(t, nil, "curl", "-sS", "-w", "%{http_code}", url+"x/y"); string(got) !=
		strconv.Itoa(statusFor(library.ErrNotFound)) {
		t.Errorf("an error is %q", got)
	}
}

// TestMpg123Listens decodes a stored item and a live recording to samples, and
// wants as many as decoding the file gives; with metadata interleaved, which
// mpg123 asks for.
func TestMpg123Listens(t *testing.T) {
	sound := tone(t, 12) // beyond one metadata interval
	name := filepath.Join(t.TempDir(), "a.mp3")
	if err := os.WriteFile(name, sound, 0o600); err != nil {
		t.Fatal(err)
	}
	want := mustRun(t, nil, "mpg123", "-q", "-s", name)
	if len(want) < 11*8000*2 {
		t.Fatalf("%d bytes of samples", len(want))
	}
	d := openDoor(t, Config{})
	d.lib.put("a", audio.FormatMP3, sound)
	url := fmt.Sprintf("http://%s/acme/", d.Addr())
	if got := mustRun(t, nil, "mpg123", "-q", "-s", url+"a.mp3"); !bytes.Equal(got, want) {
		t.Errorf("stored: %d bytes of samples, want %d", len(got), len(want))
	}
	mustRun(t, nil, "mpg123", "-q", "-t", url+"a.mp3")

	src, s := d.live(t)
	src.send(string(sound[:len(sound)/2]))
	until(t, "half", func() bool { return s.count() == len(sound)/2 })
	done := make(chan []byte)
	go func() {
		defer close(done)
		got, err := command(t, nil, "mpg123", "-q", "-s", url+"call.mp3")
		if err != nil {
			t.Error(err)
		}
		done <- got
	}()
	until(t, "a listener", func() bool { return d.listenersLive() == 1 })
	src.send(string(sound[len(sound)/2:]))
	_ = src.CloseWrite()
	if got := <-done; !bytes.Equal(got, want) {
		t.Errorf("live: %d bytes of samples, want %d", len(got), len(want))
	}
}
