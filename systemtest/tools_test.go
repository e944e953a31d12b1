package systemtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// toolWait bounds one run of a client.
const toolWait = 60 * time.Second

// command is a client with a limit on its time. A missing tool fails the test:
// a suite that skips what it cannot run says nothing.
func command(tb testing.TB, name string, args ...string) *exec.Cmd {
	tb.Helper()
	if _, err := exec.LookPath(name); err != nil {
		tb.Fatalf("%v: install what .ci/run lists", err)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), toolWait)
	tb.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = cleanEnvironment()
	return cmd
}

// run returns the standard output of a client that must succeed.
func run(tb testing.TB, name string, args ...string) []byte {
	tb.Helper()
	return output(tb, command(tb, name, args...))
}

func output(tb testing.TB, cmd *exec.Cmd) []byte {
	tb.Helper()
	var out, messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &messages
	if err := cmd.Run(); err != nil {
		tb.Fatalf("%v: %v\n%s\n%.2000s", cmd.Args, err, messages.Bytes(), out.Bytes())
	}
	return out.Bytes()
}

// client is a program that runs beside the test.
type client struct {
	tb       testing.TB
	cmd      *exec.Cmd
	out, err bytes.Buffer
	done     chan struct{}
	waitErr  error
}

// startClient starts a program, and ends it with the test.
func startClient(tb testing.TB, cmd *exec.Cmd) *client {
	tb.Helper()
	c := &client{tb: tb, cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &c.out, &c.err
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go func() {
		defer close(c.done)
		c.waitErr = cmd.Wait()
	}()
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-c.done
	})
	return c
}

// wait returns what the program wrote, once it has ended in order.
func (c *client) wait() []byte {
	c.tb.Helper()
	<-c.done // within toolWait, by its context
	if c.waitErr != nil {
		c.tb.Fatalf("%v: %v\n%.4000s", c.cmd.Args, c.waitErr, c.err.Bytes())
	}
	return c.out.Bytes()
}

func hashOf(p []byte) string {
	sum := sha256.Sum256(p)
	return hex.EncodeToString(sum[:])
}

// samples are sounds as they are met in practice, as files.
type samples struct {
	dir string
	// phone is a telephone prompt: WAV, 8 kHz mono, 16 bit, 6 s.
	phone string
	// long is the same with 200 s, 3.2 MB: more than one chunk of anything.
	long string
	// speech is what FreeSWITCH records: MPEG-2.5, 8 kHz mono, 16 kbit/s, 12 s:
	// longer than the 10 s that a request head may take, which once ended listeners.
	speech string
	// music is MPEG-1, 44.1 kHz stereo, 128 kbit/s, with an ID3 tag.
	music string
}

// makeSamples makes them with sox and lame.
func makeSamples(tb testing.TB) samples {
	tb.Helper()
	s := samples{dir: tb.TempDir()}
	path := func(name string) string { return filepath.Join(s.dir, name) }
	s.phone, s.long = path("phone.wav"), path("long.wav")
	s.speech, s.music = path("speech.mp3"), path("music.mp3")
	synth := func(file, rate, channels, seconds string) {
		run(tb, "sox", "-D", "-n", "-r", rate, "-c", channels, "-b", "16", file,
			"synth", seconds, "sine", "300:2500", "synth", seconds, "pinknoise", "mix", "vol", "0.5")
	}
	synth(s.phone, "8000", "1", "6")
	synth(s.long, "8000", "1", "200")
	synth(path("12s.wav"), "8000", "1", "12")
	synth(path("44.wav"), "44100", "2", "5")
	// Neither an ID3 tag nor an info frame: FreeSWITCH sends none.
	run(tb, "lame", "--quiet", "-t", "-m", "m", "-b", "16", "--resample", "8", path("12s.wav"), s.speech)
	run(tb, "lame", "--quiet", "-b", "128", "--tt", "Music on hold", "--add-id3v2", path("44.wav"), s.music)
	return s
}

func readFile(tb testing.TB, path string) []byte {
	tb.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// durationOf is what ffprobe measures, packet by packet.
func durationOf(tb testing.TB, path string) time.Duration {
	tb.Helper()
	out := run(tb, "ffprobe", "-v", "error", "-show_entries", "packet=duration_time", "-of", "json", path)
	var probed struct {
		Packets []struct {
			Duration string `json:"duration_time"`
		} `json:"packets"`
	}
	if err := json.Unmarshal(out, &probed); err != nil {
		tb.Fatal(err)
	}
	sum := 0.0
	for _, p := range probed.Packets {
		d, err := strconv.ParseFloat(p.Duration, 64)
		if err != nil {
			tb.Fatal(err)
		}
		sum += d
	}
	return time.Duration(sum * float64(time.Second))
}

// near fails the test unless the two differ by no more than tolerance.
func near(tb testing.TB, what string, got, want, tolerance time.Duration) {
	tb.Helper()
	if d := got - want; d > tolerance || d < -tolerance {
		tb.Errorf("%s: %v, want %v ± %v", what, got, want, tolerance)
	}
}

// difference says where two byte strings part, for failures that a person
// has to understand.
func difference(got, want []byte) string {
	n := 0
	for n < min(len(got), len(want)) && got[n] == want[n] {
		n++
	}
	switch {
	case len(got) == len(want) && n == len(got):
		return "equal"
	case n == len(got):
		return fmt.Sprintf("%d bytes, the first of %d", len(got), len(want))
	case len(got) > 0 && bytes.HasSuffix(want, got):
		return fmt.Sprintf("%d bytes, the last of %d", len(got), len(want))
	}
	where := "nowhere"
	if piece := got[n:min(len(got), n+64)]; len(piece) > 16 {
		if at := bytes.Index(want, piece); at >= 0 {
			where = fmt.Sprintf("at %d of what was wanted", at)
		}
	}
	return fmt.Sprintf("%d bytes, wanted %d; they part at %d, and what follows is found %s",
		len(got), len(want), n, where)
}

func writeFile(tb testing.TB, path string, content []byte) {
	tb.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		tb.Fatal(err)
	}
}
