package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// Goal: a bar is drawn for a person who waits, and for nobody else.
func TestBar(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	b := newBar(terminal{err: &out, errIsTerminal: true, width: 100}, false, "demo/a.mp3")
	b.now, b.began = func() time.Time { return now }, now
	b.update(1<<20, 4<<20)
	if out.Len() != 0 {
		t.Errorf("drawn at once: %q", out.String())
	}
	now = now.Add(time.Second)
	b.update(1<<20, 4<<20)
	want := "\rdemo/a.mp3  [======                  ]  25%  1 MiB of 4 MiB  1 MiB/s  0:03 left\x1b[K"
	if out.String() != want {
		t.Errorf("got  %q\nwant %q", out.String(), want)
	}
	b.update(2<<20, 4<<20)
	if out.String() != want {
		t.Error("drawn twice in the same moment")
	}
	b.clear()
	b.clear()
	if got := strings.TrimPrefix(out.String(), want); got != "\r\x1b[K" {
		t.Errorf("clear: %q", got)
	}
}

func TestBarNarrowAndUnknown(t *testing.T) {
	b := newBar(terminal{errIsTerminal: true, width: 30}, false, strings.Repeat("ä", 50))
	if got := []rune(b.line(3000, -1, time.Second)); len(got) > 30 {
		t.Errorf("%d columns: %q", len(got), string(got))
	}
}

func TestBarSilent(t *testing.T) {
	var out bytes.Buffer
	for _, b := range []*bar{
		newBar(terminal{err: &out}, false, "x"),
		newBar(terminal{err: &out, errIsTerminal: true}, true, "x"),
	} {
		b.began = time.Time{}
		b.update(1, 2)
		b.clear()
	}
	if out.Len() != 0 {
		t.Errorf("drawn: %q", out.String())
	}
}

func TestTexts(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 1268777: "1.21 MiB", 5 << 40: "5 TiB",
		999 << 10: "999 KiB", 1000 << 10: "1000 KiB", 1023 << 10: "1023 KiB", 1<<20 - 1: "1 MiB", 1 << 20: "1 MiB",
		1<<63 - 1: "8 EiB",
	} {
		if got := sizeText(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	for ms, want := range map[int64]string{0: "0.00 s", 2400: "2.40 s", 61000: "1:01", 3723000: "1:02:03"} {
		if got := lengthText(ms); got != want {
			t.Errorf("%d: %s, want %s", ms, got, want)
		}
	}
}
