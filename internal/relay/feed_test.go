package relay

import (
	"bytes"
	"testing"
	"time"

	"carillon/audio"
	"carillon/audio/mpeg"
	"carillon/library"
)

type sound struct{ *bytes.Reader }

func (sound) Close() error { return nil }

// TestByteRate reads the rates of FreeSWITCH's three kinds of frame, and
// reckons that of what has none.
func TestByteRate(t *testing.T) {
	for head, rate := range map[string]int{
		"\xff\xe3\x28\xc4": 16000, "\xff\xf3\x48\xc4": 32000, "\xff\xfb\x90\x64": 128000,
	} {
		h, err := mpeg.ParseHeader([]byte(head))
		if err != nil {
			t.Fatal(err)
		}
		frame := append([]byte(head), make([]byte, h.FrameBytes-4)...)
		body := bytes.Repeat(frame, 2)
		rec := &library.Recording{Size: int64(len(body))}
		if got, err := byteRateOf(sound{bytes.NewReader(body)}, rec); err != nil || got != rate/8 {
			t.Errorf("%x: %d, %v, want %d", head, got, err, rate/8)
		}
	}
	began := time.Now().Add(-10 * time.Second)
	silence := make([]byte, 160_000)
	for _, c := range []struct {
		rec  library.Recording
		want int
	}{
		{library.Recording{}, leadBitRate / 8},
		{library.Recording{Size: 160_000, Started: &began, ContentType: "audio/mpeg"}, leadBitRate / 8},
		{library.Recording{Size: 160_000, Started: &began, ContentType: "audio/x-wav"}, 16_000},
		{library.Recording{Size: 160_000, Audio: &audio.Info{BitRate: 64_000}}, 8000},
	} {
		got, err := byteRateOf(sound{bytes.NewReader(silence)}, &c.rec)
		if off := got - c.want; err != nil || off > 0 || off < -c.want/2 { // the test takes time, too
			t.Errorf("%+v: %d, %v", c.rec, got, err)
		}
	}
}
