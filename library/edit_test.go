package library

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"carillon/audio"
	"carillon/audio/layer3"
	"carillon/library/libtest"
)

// spoken is a WAV of a tone between two silences, at 8 kHz.
func spoken(t *testing.T, before, tone, after time.Duration) []byte {
	t.Helper()
	pcm := slices.Concat(make([]int16, before*8/time.Millisecond), audio.Sine(8000, 440, 0.5, tone),
		make([]int16, after*8/time.Millisecond))
	var b bytes.Buffer
	if err := audio.WriteWAV(&b, pcm, 8000, 1); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func spokenMP3(t *testing.T, d time.Duration) []byte {
	t.Helper()
	return libtest.Must[[]byte](t)(layer3.Encode(audio.Sine(8000, 300, 0.5, d), 8000, 16000))
}

// nearMS fails the test unless got is within an encoder's delay (its own,
// the decoder's, and what fills a frame) of want.
func nearMS(t *testing.T, what string, got, want int64) {
	t.Helper()
	if d := got - want; d > 4*mp3FrameMS || d < -4*mp3FrameMS {
		t.Errorf("%s is %d ms, want %d", what, got, want)
	}
}

// TestJoin forwards a message with an introduction: a recording, a beep, an
// item, of different formats.
func TestJoin(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	r := ticket(t, l, RecordingRequest{})
	record(t, l, r, spokenMP3(t, 2*time.Second), EndedClean)
	put(t, l, "acme", "vm/1", spoken(t, 0, 3*time.Second, 0), PutOptions{})
	request := JoinRequest{
		To: ItemName{"acme", "vm/2"}, Name: "Forwarded", Class: ClassVoicemail, SourceID: "box",
		Parts: []Piece{
			{RecordingID: r.ID, FromMS: 500},
			{ToneHz: 440, MS: 500},
			{MS: 250},
			{Account: "acme", ID: "vm/1", FromMS: 1000, ToMS: 2000},
		},
	}
	d, created, err := l.Join(t.Context(), request)
	if err != nil || !created {
		t.Fatal(created, err)
	}
	libtest.Equal(t, "format", d.Audio.Format, audio.FormatWAV)
	libtest.Equal(t, "rate", d.Audio.SampleRate, 8000)
	libtest.Equal(t, "name and class", d.Name+" "+string(d.Class)+" "+d.SourceID, "Forwarded voicemail box")
	nearMS(t, "length", d.DurationMS, 1500+500+250+1000)

	request.To.ID = "vm/2.mp3"
	request.SampleRate = 16000
	if d, _, err = l.Join(t.Context(), request); errors.Is(err, ErrNoForm) {
		t.Log("no encoder:", err)
	} else if err != nil || d.Audio.Format != audio.FormatMP3 || d.Audio.SampleRate != 16000 {
		t.Errorf("joined to %+v, %v", d, err)
	}
	request.To.ID, request.IfNoneMatch = "vm/2", "*"
	_, _, err = l.Join(t.Context(), request)
	libtest.WantErr(t, "join over an item", err, ErrPrecondition)
}

// TestTrim cuts an item in its place, keeps what is said about it, and a
// recording into an item.
func TestTrim(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	put(t, l, "acme", "g", spoken(t, time.Second, 2*time.Second, 3*time.Second),
		PutOptions{Name: "Greeting", Metadata: map[string]string{"k": "v"}})
	d, created, err := l.Trim(t.Context(), TrimRequest{From: ItemName{"acme", "g"}, Silence: true})
	if err != nil || created {
		t.Fatal(created, err)
	}
	nearMS(t, "length", d.DurationMS, 2200)
	libtest.Equal(t, "name", d.Name+d.Metadata["k"], "Greetingv")
	d, created, err = l.Trim(t.Context(), TrimRequest{
		From: ItemName{"acme", "g"}, To: ItemName{"acme", "h"}, FromMS: 200, ToMS: 1200,
	})
	if err != nil || !created || d.DurationMS != 1000 || d.Name != "Greeting" {
		t.Errorf("trimmed to %+v, %v", d, err)
	}

	r := ticket(t, l, RecordingRequest{})
	_, _, err = l.Trim(t.Context(), TrimRequest{RecordingID: r.ID, To: ItemName{"acme", "r"}, ToMS: 500})
	libtest.WantErr(t, "before it is there", err, ErrState)
	record(t, l, r, spokenMP3(t, 2*time.Second), EndedClean)
	d, _, err = l.Trim(t.Context(), TrimRequest{RecordingID: r.ID, To: ItemName{"acme", "r.mp3"}, ToMS: 500})
	if err != nil || d.Audio.Format != audio.FormatMP3 {
		t.Errorf("trimmed to %+v, %v", d, err)
	}
	libtest.Equal(t, "length", d.DurationMS, 500)
	d, _, err = l.Trim(t.Context(), TrimRequest{From: ItemName{"acme", "r.mp3"}, FromMS: 250})
	if err != nil || d.Audio.Format != audio.FormatMP3 || d.Source != sourceRecording {
		t.Errorf("trimmed to %+v, %v", d, err)
	}
	libtest.Equal(t, "length", d.DurationMS, 250)
}

// TestSilence finds it at both ends and within.
func TestSilence(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	put(t, l, "acme", "g", spoken(t, time.Second, 2*time.Second, 3*time.Second), PutOptions{})
	a := libtest.Must[SilenceAnswer](t)(l.Silence(t.Context(), SilenceRequest{Account: "acme", ID: "g"}))
	libtest.Equal(t, "length", a.DurationMS, 6000)
	nearMS(t, "leading", a.LeadingMS, 1000)
	nearMS(t, "trailing", a.TrailingMS, 3000)
	nearMS(t, "longest", a.LongestMS, 3000)
	nearMS(t, "silent", a.SilentMS, 4000)
	if a.PeakDB < -7 || a.PeakDB > -5 {
		t.Errorf("peak is %v dB", a.PeakDB)
	}
	r := ticket(t, l, RecordingRequest{})
	record(t, l, r, spokenMP3(t, time.Second), EndedClean)
	a = libtest.Must[SilenceAnswer](t)(l.Silence(t.Context(), SilenceRequest{RecordingID: r.ID}))
	nearMS(t, "length", a.DurationMS, 1000)
}

// Goal: what cannot be edited is refused with the reason, and nothing remains.
func TestEditRefused(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	put(t, l, "acme", "g", spoken(t, 0, time.Second, 0), PutOptions{})
	put(t, l, "acme", "quiet", spoken(t, time.Second, 0, 0), PutOptions{})
	good, to := Piece{Account: "acme", ID: "g"}, ItemName{"acme", "x"}
	for _, c := range []struct {
		r    JoinRequest
		want error
	}{
		{JoinRequest{To: to}, ErrBadRequest},
		{JoinRequest{To: to, Parts: make([]Piece, piecesMax+1)}, ErrBadRequest},
		{JoinRequest{To: to, Parts: []Piece{{MS: 5}}}, ErrBadRequest}, // nothing says a rate
		{JoinRequest{To: to, Parts: []Piece{good, {}}}, ErrBadRequest},
		{JoinRequest{To: to, Parts: []Piece{good, {MS: pieceMSMax + 1}}}, ErrBadRequest},
		{JoinRequest{To: to, Parts: []Piece{good, {MS: 5, ToneHz: 4000}}}, ErrBadRequest}, // 8 kHz has none
		{JoinRequest{To: to, Parts: []Piece{good, {MS: 5, ToneHz: -440}}}, ErrBadRequest},
		{JoinRequest{To: to, Parts: []Piece{{Account: "acme", ID: "g", MS: 1}}}, ErrBadRequest},
		{JoinRequest{To: to, Parts: []Piece{{Account: "acme", ID: "g", FromMS: 1000}}}, ErrBadRequest},
		{JoinRequest{To: to, Parts: []Piece{{Account: "acme", ID: "g", FromMS: 5, ToMS: 5}}}, ErrBadRequest},
		{JoinRequest{To: to, Parts: []Piece{{Account: "acme", ID: "g", RecordingID: "r"}}}, ErrBadRequest},
		{JoinRequest{To: to, Parts: []Piece{{Account: "acme", ID: "none"}}}, ErrNotFound},
		{JoinRequest{To: to, Parts: []Piece{good}, EditForm: EditForm{Format: "ogg"}}, ErrBadRequest},
		{JoinRequest{To: to, Parts: []Piece{good}, EditForm: EditForm{SampleRate: 7}}, ErrBadRequest},
		{JoinRequest{To: ItemName{"acme", "../x"}, Parts: []Piece{good}}, ErrBadName},
	} {
		_, _, err := l.Join(t.Context(), c.r)
		libtest.WantErr(t, "join", err, c.want)
	}
	for _, r := range []TrimRequest{
		{From: ItemName{"acme", "g"}},
		{From: ItemName{"acme", "quiet"}, Silence: true},
		{From: ItemName{"acme", "g"}, FromMS: -1, ToMS: 5},
	} {
		_, _, err := l.Trim(t.Context(), r)
		libtest.WantErr(t, "trim", err, ErrBadRequest)
	}
	for _, threshold := range []float64{3, math.NaN(), math.Inf(1)} {
		_, err := l.Silence(t.Context(), SilenceRequest{Account: "acme", ID: "g", ThresholdDB: threshold})
		libtest.WantErr(t, "silence", err, ErrBadRequest)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Silence(gone, SilenceRequest{Account: "acme", ID: "g"}); !errors.Is(err, context.Canceled) {
		t.Errorf("silence for nobody: %v", err)
	}
	libtest.Equal(t, "references", len(refs(t, local)), 2)
}
