package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	// barAfter: a transfer that is over before this shows nothing, a bar that
	// flashes up only disturbs.
	barAfter = 400 * time.Millisecond
	// barEvery is how often the bar is drawn; faster cannot be read.
	barEvery = 100 * time.Millisecond
	// barColumns is the length of the drawn bar.
	barColumns = 24
	// barWidthDefault is used when the terminal does not tell its width.
	barWidthDefault = 80
)

// bar draws the progress of a transfer on a terminal, on one line that it
// redraws. It is used by one goroutine.
type bar struct {
	w       io.Writer // nil: nobody watches
	title   string
	width   int
	now     func() time.Time
	began   time.Time
	drawn   time.Time
	visible bool
}

// newBar makes a bar, or one that draws nothing if standard error is no
// terminal or the output is for programs.
func newBar(tty terminal, quiet bool, title string) *bar {
	b := &bar{title: title, width: tty.width, now: time.Now}
	if tty.errIsTerminal && !quiet {
		b.w = tty.err
	}
	if b.width <= 0 {
		b.width = barWidthDefault
	}
	b.began = b.now()
	return b
}

// update is told how far the transfer is; total is -1 when unknown.
func (b *bar) update(done, total int64) {
	if b.w == nil {
		return
	}
	now := b.now()
	if now.Sub(b.began) < barAfter || now.Sub(b.drawn) < barEvery && done != total {
		return
	}
	b.drawn, b.visible = now, true
	line := b.line(done, total, now.Sub(b.began))
	_, _ = fmt.Fprintf(b.w, "\r%s\x1b[K", line) // a bar that cannot be drawn is no error
}

// clear removes the bar. It may be called twice.
func (b *bar) clear() {
	if b.visible {
		_, _ = fmt.Fprint(b.w, "\r\x1b[K")
		b.visible = false
	}
}

func (b *bar) line(done, total int64, elapsed time.Duration) string {
	rate := float64(done) / elapsed.Seconds()
	tail := fmt.Sprintf("%s  %s/s", sizeText(done), sizeText(int64(rate)))
	if total > 0 {
		part := min(float64(done)/float64(total), 1)
		filled := int(part * barColumns)
		left := "--:--"
		if rate > 0 {
			s := int64(float64(total-done)/rate + 0.5)
			left = fmt.Sprintf("%d:%02d", s/60, s%60)
		}
		tail = fmt.Sprintf("[%s%s] %3.0f%%  %s of %s  %s/s  %s left", strings.Repeat("=", filled),
			strings.Repeat(" ", barColumns-filled), part*100, sizeText(done), sizeText(total),
			sizeText(int64(rate)), left)
	}
	title := []rune(b.title)
	if room := max(b.width-1-len(tail)-2, 0); len(title) > room {
		title = title[:room]
	}
	return string(title) + "  " + tail
}
