package library

import (
	"bytes"
	"testing"
	"time"

	"carillon/blobstore"
	"carillon/library/libtest"
)

// TestRecovery: a node that dies while it records finds what was durable when
// it starts again, marks it truncated and stores what was to be stored.
func TestRecovery(t *testing.T) {
	t.Parallel()
	local := libtest.OpenStore(t, t.TempDir())
	sound := mp3Sound(100)
	plain, auto, empty := crash(t, local, sound)

	l := openLibrary(t, testConfig(), testDeps(local))
	libtest.WaitFor(t, "recordings are recovered", func() bool {
		return recordingNow(t, l, plain.ID).State == StateTruncated &&
			recordingNow(t, l, auto.ID).State == StateStored && recordingNow(t, l, empty.ID).State == StateTruncated
	})
	r, rec, err := l.OpenRecording(t.Context(), plain.ID, FromStart)
	if err != nil {
		t.Fatal(err)
	}
	libtest.Equal(t, "size", rec.Size, int64(len(sound)))
	libtest.Equal(t, "frames", rec.Audio.Frames, 100)
	if got := readAll(t, r); !bytes.Equal(got, sound) {
		t.Errorf("%d bytes came back", len(got))
	}
	d, err := l.Get(t.Context(), "acme", "stored.mp3", Fresh)
	if err != nil || !d.Truncated || !bytes.Equal(readItem(t, l, d), sound) {
		t.Errorf("item is %+v, %v", d, err)
	}
	if got := recordingNow(t, l, empty.ID); got.Size != 0 {
		t.Errorf("empty recording is %+v", got)
	}
	// A Get may see a row of a commit a moment before a Scan sees all of it.
	libtest.WaitFor(t, "active rows are gone",
		func() bool { return len(libtest.Keys(t, local, activePrefix)) == 0 })
}

// crash makes three live recordings whose bytes are durable and whose library
// ends without settling them.
func crash(t *testing.T, local *blobstore.Local, sound []byte) (plain, auto, empty Recording) {
	t.Helper()
	l, err := Open(t.Context(), testConfig(), testDeps(local))
	if err != nil {
		t.Fatal(err)
	}
	plain = ticket(t, l, RecordingRequest{})
	auto = ticket(t, l, RecordingRequest{StoreAs: "stored.mp3"})
	empty = ticket(t, l, RecordingRequest{StoreAs: "never.mp3"})
	for _, r := range []Recording{plain, auto, empty} {
		s, err := l.Claim(t.Context(), ticketRequest(l, r))
		if err != nil {
			t.Fatal(err)
		}
		if r.ID == empty.ID {
			continue
		}
		write(t, s, sound)
		libtest.WaitFor(t, "bytes are durable", func() bool {
			info, err := local.Stat(t.Context(), s.blob)
			return err == nil && info.Size == int64(len(sound))
		})
	}
	l.stop() // as if the process were killed: no session is ended, nothing is sealed
	l.running.Wait()
	if err := l.flusher.Close(); err != nil {
		t.Error(err)
	}
	return plain, auto, empty
}

// TestGone: what a node that is away for long was recording is sealed by
// another, and the mount of a configured source is free again.
func TestGone(t *testing.T) {
	t.Parallel()
	local := libtest.OpenStore(t, t.TempDir())
	sound := mp3Sound(100)
	plain, _, _ := crash(t, local, sound)
	deps := testDeps(local)
	deps.NodeID = "node-2"
	present := openLibrary(t, testConfig(), deps)
	present.pass(t.Context(), time.Now())
	if got := recordingNow(t, present, plain.ID); got.State != StateLive {
		t.Errorf("recording of a node that may be alive is %s", got.State)
	}
	deps.NodeID, deps.Metrics = "node-3", nil
	deps.Gone = func(node string) bool { return node == "node-1" }
	l := openLibrary(t, testConfig(), deps)
	libtest.WaitFor(t, "recording is recovered", func() bool {
		return recordingNow(t, l, plain.ID).State == StateTruncated
	})
}

// TestCloseSeals: what is live when the library closes is sealed as cut short.
func TestCloseSeals(t *testing.T) {
	t.Parallel()
	local := libtest.OpenStore(t, t.TempDir())
	l, err := Open(t.Context(), testConfig(), testDeps(local))
	if err != nil {
		t.Fatal(err)
	}
	r := ticket(t, l, RecordingRequest{})
	s, err := l.Claim(t.Context(), ticketRequest(l, r))
	if err != nil {
		t.Fatal(err)
	}
	write(t, s, mp3Sound(10))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = l.Claim(t.Context(), SourceRequest{Mount: "x", User: "foo", Password: "bar"})
	libtest.WantErr(t, "claim after close", err, ErrUnavailable)
	again := openLibrary(t, testConfig(), testDeps(local))
	if got := recordingNow(t, again, r.ID); got.State != StateTruncated || got.Size != 10*mp3FrameBytes {
		t.Errorf("recording is %+v", got)
	}
}
