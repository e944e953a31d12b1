package library

import (
	"bytes"
	"io"
	"testing"
	"time"

	"carillon/audio/mpeg"
	"carillon/library/libtest"
)

// TestFollow: a listener of a live recording hears all of it to its end.
func TestFollow(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	r := ticket(t, l, RecordingRequest{})
	s, err := l.Claim(t.Context(), ticketRequest(l, r))
	if err != nil {
		t.Fatal(err)
	}
	sound := mp3Sound(100)
	reader, _, err := l.OpenRecording(libtest.Bounded(t), r.ID, FromStart) // before the first byte
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan []byte)
	go func() {
		b, err := io.ReadAll(reader)
		if err != nil {
			t.Error(err)
		}
		heard <- b
	}()
	write(t, s, sound)
	if err := s.Close(libtest.Bounded(t), EndedClean); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; !bytes.Equal(got, sound) {
		t.Errorf("heard %d bytes of %d", len(got), len(sound))
	}
	if err := reader.Close(); err != nil {
		t.Error(err)
	}
}

// TestFollowFromNow: a listener who joins late begins the lead before the live
// edge, at a frame.
func TestFollowFromNow(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	r := ticket(t, l, RecordingRequest{})
	s, err := l.Claim(t.Context(), ticketRequest(l, r))
	if err != nil {
		t.Fatal(err)
	}
	sound := mp3Sound(200)
	write(t, s, sound)
	libtest.WaitFor(t, "bytes are durable", func() bool {
		info, err := local.Stat(t.Context(), s.blob)
		return err == nil && info.Size == int64(len(sound))
	})
	reader, _, err := l.OpenRecording(libtest.Bounded(t), r.ID, FromNow)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(libtest.Bounded(t), EndedClean); err != nil {
		t.Fatal(err)
	}
	got := readAll(t, reader)
	lead := int(BurstDefault/(mp3FrameMS*time.Millisecond)) * mp3FrameBytes
	if !bytes.HasSuffix(sound, got) || len(got)%mp3FrameBytes != 0 ||
		len(got) < lead || len(got) > lead+2*mpeg.FrameBytesMax {
		t.Errorf("heard the last %d bytes, the lead is %d", len(got), lead)
	}
	_, _, err = l.OpenRecording(t.Context(), r.ID, From("middle"))
	libtest.WantErr(t, "other beginnings", err, ErrBadRequest)
}
