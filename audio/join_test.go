package audio

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/iotest"
	"time"

	"carillon/audio/audiotest"
)

// readFile is one of the recordings that FreeSWITCH sent, and its probe.
func freeswitchFile(tb testing.TB, name string) ([]byte, Info) {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "freeswitch", name+".mp3"))
	if err != nil {
		tb.Fatal(err)
	}
	info, err := probeWhole(b)
	if err != nil {
		tb.Fatal(err)
	}
	return b, info
}

func wavOf(tb testing.TB, pcm []int16, rate, channels int) ([]byte, Info) {
	tb.Helper()
	var b bytes.Buffer
	if err := WriteWAV(&b, pcm, rate, channels); err != nil {
		tb.Fatal(err)
	}
	info, err := probeWhole(b.Bytes())
	if err != nil {
		tb.Fatal(err)
	}
	return b.Bytes(), info
}

// TestJoin forwards a voicemail with an introduction: both are there in full, in
// the form of the first, with the tone between, and the length is known.
func TestJoin(t *testing.T) {
	intro, introInfo := wavOf(t, Melody(16000, time.Second), 16000, 1)
	mail, mailInfo := freeswitchFile(t, "rec-put")
	parts := func() []Part {
		return []Part{
			{Source: bytes.NewReader(intro), Info: introInfo},
			Pause(100 * time.Millisecond),
			Tone(1000, -12, 300*time.Millisecond),
			{Source: bytes.NewReader(mail), Info: mailInfo, Options: []Option{Trim(800, 8800)}},
		}
	}
	var out bytes.Buffer
	if err := Join(&out, Form{Container: ContainerWAV}, parts()...); err != nil {
		t.Fatal(err)
	}
	info := mustProbe(t, out.Bytes())
	const introN, pauseN, toneN, mailN = 16000, 1600, 4800, 16000
	if info.Samples != introN+pauseN+toneN+mailN || info.SampleRate != 16000 || info.Truncated {
		t.Fatalf("%+v", info)
	}
	pcm := audiotest.Samples(out.Bytes()[wavHeadBytes:])
	if !slices.Equal(pcm[:introN], Melody(16000, time.Second)) {
		t.Error("the introduction is changed")
	}
	if pause := pcm[introN:][:pauseN]; slices.Max(pause) != 0 || slices.Min(pause) != 0 {
		t.Error("the pause sounds")
	}
	beep := pcm[introN+pauseN:][:toneN]
	if got := dominant(beep, 16000); math.Abs(got-1000) > 3 {
		t.Errorf("the tone has %.0f Hz", got)
	}
	if peak := slices.Max(beep); math.Abs(float64(peak)-math.MaxInt16*0.2512) > 40 || beep[0] != 0 {
		t.Errorf("the tone has peak %d and begins with %d", peak, beep[0])
	}
	raw := convertAll(t, mail, mailInfo, Form{Container: ContainerRaw, SampleRate: 16000}, Trim(800, 8800))
	if !slices.Equal(pcm[introN+pauseN+toneN:], audiotest.Samples(raw)) {
		t.Error("the message is changed")
	}
	c, err := NewJoin(Form{Container: ContainerMulaw, SampleRate: 8000, Channels: 2}, parts()...)
	if err != nil {
		t.Fatal(err)
	}
	size, _ := c.Size()
	if n, err := io.Copy(io.Discard, c); err != nil || n != size || n != (8000+800+2400+8000)*2 {
		t.Errorf("%d bytes, size %d: %v", n, size, err)
	}
}

func TestJoinRefuses(t *testing.T) {
	ogg := Part{Source: bytes.NewReader(nil), Info: Info{Format: FormatOgg, Codec: "opus"}}
	wav, info := wavOf(t, make([]int16, 100), 8000, 1)
	sound := func() Part { return Part{Source: bytes.NewReader(wav), Info: info} }
	for _, tt := range []struct {
		parts []Part
		want  error
	}{
		{nil, ErrNoParts},
		{[]Part{Tone(440, 0, time.Second)}, ErrNoParts},
		{[]Part{sound(), Pause(0)}, ErrNoParts},
		{[]Part{sound(), Tone(440, 0, 2*time.Minute)}, ErrNoParts},
		{[]Part{sound(), Tone(-1, 0, time.Second)}, ErrTone},
		{[]Part{sound(), Tone(4000, 0, time.Second)}, ErrTone},
		{[]Part{Tone(1e30, 0, time.Second), sound()}, ErrTone},
		{[]Part{sound(), ogg}, ErrUnsupportedCodec},
		{[]Part{{Source: iotest.ErrReader(io.ErrClosedPipe), Info: info}}, io.ErrClosedPipe},
	} {
		if err := Join(io.Discard, Form{Container: ContainerRaw}, tt.parts...); !errors.Is(err, tt.want) {
			t.Errorf("%v, want %v", err, tt.want)
		}
	}
}

// TestSilence finds the pauses that were put in.
func TestSilence(t *testing.T) {
	join := func(parts ...Part) ([]byte, Info) {
		wav, info := wavOf(t, Sine(8000, 300, 0.5, 500*time.Millisecond), 8000, 1)
		var out bytes.Buffer
		for i := range parts {
			if parts[i].length == 0 {
				parts[i] = Part{Source: bytes.NewReader(wav), Info: info}
			}
		}
		if err := Join(&out, Form{Container: ContainerWAV}, parts...); err != nil {
			t.Fatal(err)
		}
		return out.Bytes(), mustProbe(t, out.Bytes())
	}
	ms := func(n int) Part { return Pause(time.Duration(n) * time.Millisecond) }
	sound := Part{}
	for _, tt := range []struct {
		parts                                           []Part
		samples, leading, trailing, longest, at, silent int64
	}{
		{[]Part{sound}, 4000, 0, 0, 0, 0, 0},
		{[]Part{ms(300), sound, ms(700), sound, ms(100)}, 16800, 2400, 800, 5600, 6400, 8000},
		{[]Part{ms(50), sound, ms(150), sound}, 9600, 400, 0, 1200, 4400, 0},
		{[]Part{sound, ms(1234)}, 13872, 0, 9872, 9872, 4000, 9872},
	} {
		b, info := join(tt.parts...)
		got, err := Silence(bytes.NewReader(b), info)
		if err != nil {
			t.Fatal(err)
		}
		want := SilenceReport{
			SampleRate: 8000, Samples: tt.samples, Leading: tt.leading, Trailing: tt.trailing,
			Longest: tt.longest, LongestAt: tt.at, Silent: tt.silent, PeakDB: got.PeakDB, LevelDB: got.LevelDB,
		}
		if got != want || math.Abs(got.PeakDB+6.02) > 0.01 || got.LevelDB > -9 || got.LevelDB < -17 {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	quiet, info := wavOf(t, make([]int16, 8000), 8000, 2)
	got, err := Silence(iotest.OneByteReader(bytes.NewReader(quiet)), info)
	want := SilenceReport{
		SampleRate: 8000, Samples: 4000, Leading: 4000, Trailing: 4000, Longest: 4000, Silent: 4000,
		PeakDB: silenceFloor, LevelDB: silenceFloor,
	}
	if err != nil || got != want {
		t.Errorf("silent as a whole: %+v, %v", got, err)
	}
}

// TestLostRecording: the mark is known, and no other recording is taken for it.
func TestLostRecording(t *testing.T) {
	for name, want := range map[string]bool{
		"rec-short-default-2s": true, "rec-put": false, "rec-icecast": false, "urec-16k": false,
	} {
		b, info := freeswitchFile(t, name)
		if got := LostRecording(b, info); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	b, info := freeswitchFile(t, "rec-put")
	short := b[:864]
	info.Frames, info.Samples = 6, 6*576
	if got := LostRecording(short, info); got {
		t.Error("six frames with sound are taken for the mark")
	}
	wav, info := wavOf(t, make([]int16, 400), 8000, 1)
	if LostRecording(wav, info) || LostRecording(nil, Info{}) {
		t.Error("what is no MP3 is taken for the mark")
	}
}

func BenchmarkSilence(b *testing.B) {
	item, info := freeswitchFile(b, "rec-icecast")
	for b.Loop() {
		if _, err := Silence(bytes.NewReader(item), info); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*info.Duration().Seconds()/b.Elapsed().Seconds(), "x_realtime")
}
