package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// screen prints the demo for people: one line a step, with how long it took.
type screen struct {
	w     io.Writer
	color bool
}

func newScreen(tty terminal) *screen { return &screen{w: tty.out, color: tty.outIsTerminal} }

// textColumns is where the times stand, so that they are one column, on a
// terminal of 80.
const textColumns = 66

func (s *screen) title(text string) { s.printf("\n%s\n", s.paint("1", text)) }

func (s *screen) note(format string, args ...any) {
	s.printf("  %s\n", s.paint("2", fmt.Sprintf(format, args...)))
}

func (s *screen) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(s.w, format, args...) // nobody to tell that nobody can be told
}

func (s *screen) paint(code, text string) string {
	if !s.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// begin starts a step. On a terminal it shows what is going on meanwhile.
func (s *screen) begin(doing string) step {
	if s.color {
		s.printf("  … %s", doing)
	}
	return step{screen: s, began: time.Now()}
}

// step is one line of the tour.
type step struct {
	screen *screen
	began  time.Time
}

// done finishes the step with what was achieved.
func (s step) done(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	took := time.Since(s.began)
	if s.screen.color {
		s.screen.printf("\r\x1b[K")
	}
	pad := strings.Repeat(" ", max(textColumns-len([]rune(text)), 1))
	s.screen.printf("  %s %s%s%s\n", s.screen.paint("32", "✓"), text, pad, s.screen.paint("2", tookText(took)))
}

func tookText(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%6.1f ms", float64(d.Microseconds())/1000)
	}
	return fmt.Sprintf("%6.2f s", d.Seconds())
}

// addresses ends the demo: what one can try now. Item is there, or will be after
// the first lines.
func (s *screen) addresses(d *demoCluster, item string) {
	s.title("Up and running, Ctrl-C stops it")
	for i := range d.nodes {
		s.printf("  node %d   %-26s shout://%s\n", i+1, d.httpURL(i), d.nodes[i].node.wiring.shoutHost())
	}
	first, last := d.httpURL(0), d.httpURL(demoNodes-1)
	shout := d.nodes[0].node.wiring.shoutHost()
	s.printf("  token    %s\n", d.token)
	s.title("Try")
	s.printf(`  export CARILLON_SERVER=%[1]s CARILLON_TOKEN=%[4]s
  %[5]s cluster status
  %[5]s media ls demo --long
  %[5]s media put song.mp3 demo/%[7]s

  # store with curl through one node, play from another
  curl -T song.mp3 -H "Authorization: Bearer $CARILLON_TOKEN" %[1]s/media/demo/%[7]s
  mpg123 %[2]s/media/demo/%[6]s

  # ask where to play a name, and for a place to record to
  curl -H "Authorization: Bearer $CARILLON_TOKEN" "%[1]s/v1/lookup?account=demo&name=%[6]s"
  curl -H "Authorization: Bearer $CARILLON_TOKEN" -H "Content-Type: application/json" \
    -d '{"account":"demo","name":"me.mp3"}' %[1]s/v1/recordings

  # record into the record_url that it answers, and listen meanwhile
  ffmpeg -re -f lavfi -i sine=440:r=8000 -b:a 16k -content_type audio/mpeg -f mp3 \
    icecast://USER:TOKEN@%[3]s/me.mp3
  mpg123 http://%[3]s/demo/me.mp3
`, first, last, shout, d.token, self(), item, demoSong)
}

// self is how this program is called: a binary of go run has no name that
// could be typed.
func self() string {
	if strings.Contains(os.Args[0], "go-build") {
		return "go run ./cmd/appliance"
	}
	return os.Args[0]
}
