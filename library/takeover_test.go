package library

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"carillon/blobstore"
	"carillon/library/libtest"
)

func takeoverConfig() Config {
	cfg := testConfig()
	cfg.TakeoverGrace = time.Minute
	cfg.TakeoverQuiet = time.Nanosecond
	return cfg
}

// TestNoTakeoverOfASourceThatIsWell: a ticket is for one source at a time, on
// the node of the source and on another.
func TestNoTakeoverOfASourceThatIsWell(t *testing.T) {
	t.Parallel()
	local := libtest.OpenStore(t, t.TempDir())
	cfg := takeoverConfig()
	cfg.TakeoverQuiet = time.Minute
	one := openLibrary(t, cfg, testDeps(local))
	deps := testDeps(local)
	deps.NodeID, deps.Metrics = "node-2", prometheus.NewRegistry()
	two := openLibrary(t, cfg, deps)
	r := ticket(t, one, RecordingRequest{})
	old := libtest.Must[*Session](t)(one.Claim(t.Context(), ticketRequest(one, r)))
	sound := mp3Sound(30)
	write(t, old, sound)
	for _, l := range []*Library{one, two, two} {
		_, err := l.Claim(t.Context(), ticketRequest(l, r))
		libtest.WantErr(t, "claim beside a source that is well", err, ErrTicketUsed)
	}
	write(t, old, sound)
	libtest.WantErr(t, "close", old.Close(libtest.Bounded(t), EndedClean), nil)
	now := recordingNow(t, one, r.ID)
	libtest.Equal(t, "state", now.State, StateSealed)
	libtest.Equal(t, "size", now.Size, int64(2*len(sound)))
}

// checkWhole checks that the recording ended in order with that sound, and
// where its segments begin.
func checkWhole(t *testing.T, l *Library, id string, want []byte, offsets ...int64) Recording {
	t.Helper()
	now := recordingNow(t, l, id)
	reader, _, err := l.OpenRecording(t.Context(), id, FromStart)
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, reader); !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d, or others", len(got), len(want))
	}
	if len(now.Segments) != len(offsets) {
		t.Fatalf("segments are %+v", now.Segments)
	}
	for i, offset := range offsets {
		libtest.Equal(t, "offset of a segment", now.Segments[i].Offset, offset)
		if now.Segments[i].Ended == nil || now.Segments[i].Started.IsZero() {
			t.Errorf("segment is %+v", now.Segments[i])
		}
	}
	return now
}

// TestTakeover cuts a source within a frame and comes back with the ticket:
// the recording goes on at the last whole frame.
func TestTakeover(t *testing.T) {
	t.Parallel()
	l := openLibrary(t, takeoverConfig(), testDeps(libtest.OpenStore(t, t.TempDir())))
	r := ticket(t, l, RecordingRequest{StoreAs: "vm"})
	first, second := mp3Sound(100), mp3Sound(50)
	record(t, l, r, first[:100*mp3FrameBytes-40], EndedCut)
	before := recordingNow(t, l, r.ID)
	libtest.Equal(t, "state", before.State, StateStored) // what there is can be heard already
	libtest.Equal(t, "duration of the cut one", before.DurationMS, 99*mp3FrameMS)

	s := libtest.Must[*Session](t)(l.Claim(t.Context(), ticketRequest(l, r)))
	live := recordingNow(t, l, r.ID)
	libtest.Equal(t, "state", live.State, StateLive)
	libtest.Equal(t, "size", live.Size, 99*mp3FrameBytes)
	write(t, s, second)
	libtest.WantErr(t, "close", s.Close(libtest.Bounded(t), EndedClean), nil)

	want := append(bytes.Clone(first[:99*mp3FrameBytes]), second...)
	now := checkWhole(t, l, r.ID, want, 0, 99*mp3FrameBytes)
	libtest.Equal(t, "state", now.State, StateStored)
	libtest.Equal(t, "ended by", now.EndedBy, EndedBySource)
	libtest.Equal(t, "frames", now.Audio.Frames, 149)
	d := libtest.Must[Document](t)(l.Get(t.Context(), "acme", "vm", Fresh))
	if d.SHA256 != now.SHA256 || len(d.Segments) != 2 || d.Truncated {
		t.Errorf("item is %+v", d)
	}
	libtest.Equal(t, "references", len(refs(t, l.rows)), 1)

	_, err := l.Claim(t.Context(), ticketRequest(l, r))
	libtest.WantErr(t, "claim after an end in order", err, ErrTicketUsed)
}

// TestTakeoverOfALiveSource: the server may believe in a connection that is
// gone; who has the ticket takes the recording from it.
func TestTakeoverOfALiveSource(t *testing.T) {
	t.Parallel()
	l := openLibrary(t, takeoverConfig(), testDeps(libtest.OpenStore(t, t.TempDir())))
	r := ticket(t, l, RecordingRequest{})
	old := libtest.Must[*Session](t)(l.Claim(t.Context(), ticketRequest(l, r)))
	first, second := mp3Sound(30), mp3Sound(20)
	write(t, old, first)
	s := libtest.Must[*Session](t)(l.Claim(t.Context(), ticketRequest(l, r)))
	<-old.Done()
	_, err := old.Write(first)
	libtest.WantErr(t, "write of the old source", err, ErrState)
	libtest.WantErr(t, "close of the old source", old.Close(libtest.Bounded(t), EndedCut), nil)
	write(t, s, second)
	libtest.WantErr(t, "close", s.Close(libtest.Bounded(t), EndedClean), nil)
	now := checkWhole(t, l, r.ID, append(bytes.Clone(first), second...), 0, int64(len(first)))
	libtest.Equal(t, "state", now.State, StateSealed)
}

// TestTakeoverFromAnotherNode: the source comes back to another node while
// the first still holds its connection, and while the first is dead.
func TestTakeoverFromAnotherNode(t *testing.T) {
	t.Parallel()
	local := libtest.OpenStore(t, t.TempDir())
	one := openLibrary(t, takeoverConfig(), testDeps(local))
	deps := testDeps(local)
	deps.NodeID, deps.Metrics = "node-2", prometheus.NewRegistry()
	two := openLibrary(t, takeoverConfig(), deps)

	r := ticket(t, one, RecordingRequest{})
	old := libtest.Must[*Session](t)(one.Claim(t.Context(), ticketRequest(one, r)))
	first, second := mp3Sound(30), mp3Sound(20)
	write(t, old, first)
	s := libtest.Must[*Session](t)(two.Claim(t.Context(), ticketRequest(two, r)))
	<-old.Done()
	write(t, s, second)
	libtest.WantErr(t, "close", s.Close(libtest.Bounded(t), EndedClean), nil)
	now := checkWhole(t, two, r.ID, append(bytes.Clone(first), second...), 0, int64(len(first)))
	libtest.Equal(t, "node of the first segment", now.Segments[0].Node, "node-1")
	libtest.Equal(t, "node of the second segment", now.Segments[1].Node, "node-2")

	// A node of which only its rows and its blob are left.
	r = ticket(t, one, RecordingRequest{})
	deps.NodeID, deps.Metrics = "node-3", prometheus.NewRegistry()
	three := openLibrary(t, takeoverConfig(), deps)
	row := libtest.Must[*stored](t)(three.recording(t.Context(), r.ID))
	blob, request := blobstore.NewID(), ticketRequest(one, r)
	libtest.WantErr(t, "begin", local.Begin(t.Context(), blob, blobstore.Spec{Live: true}), nil)
	libtest.WantErr(t, "append", local.Append(t.Context(), blob, 0, first), nil)
	libtest.WantErr(t, "go live", three.begin(t.Context(), row, blob, &request), nil)
	s = libtest.Must[*Session](t)(two.Claim(t.Context(), request))
	write(t, s, second)
	libtest.WantErr(t, "close", s.Close(libtest.Bounded(t), EndedClean), nil)
	checkWhole(t, two, r.ID, append(bytes.Clone(first), second...), 0, int64(len(first)))
}

// Goal: what may not be continued is not.
func TestNoTakeover(t *testing.T) {
	t.Parallel()
	l := openLibrary(t, takeoverConfig(), testDeps(libtest.OpenStore(t, t.TempDir())))
	claim := func(r Recording) error {
		s, err := l.Claim(t.Context(), ticketRequest(l, r))
		if err == nil {
			_ = s.Close(libtest.Bounded(t), EndedCut)
		}
		return err
	}
	r := ticket(t, l, RecordingRequest{Name: "x.wav"})
	record(t, l, r, wavSound(4000), EndedCut)
	libtest.WantErr(t, "a file with a head", claim(r), ErrTicketUsed)

	r = ticket(t, l, RecordingRequest{})
	record(t, l, r, mp3Sound(20), EndedCut)
	libtest.Must[Document](t)(l.StoreRecording(t.Context(), r.ID, StoreRequest{Account: "acme", ID: "kept"}))
	libtest.WantErr(t, "stored by hand", claim(r), ErrTicketUsed)

	r = ticket(t, l, RecordingRequest{})
	record(t, l, r, nil, EndedCut)
	libtest.WantErr(t, "cut before the first byte", claim(r), nil)
	l.cfg.TakeoverGrace = time.Nanosecond
	libtest.WantErr(t, "after the grace", claim(r), ErrTicketUsed)
	l.cfg.TakeoverGrace = time.Minute
	for range segmentsMax - 2 {
		libtest.WantErr(t, "again", claim(r), nil)
	}
	libtest.WantErr(t, "once too often", claim(r), ErrTicketUsed)
}

// Goal: a source that left in order and had sent nothing has not used up its
// ticket; one that had sent a byte has.
func TestTakeoverOfNothing(t *testing.T) {
	t.Parallel()
	l := openLibrary(t, takeoverConfig(), testDeps(libtest.OpenStore(t, t.TempDir())))
	r := ticket(t, l, RecordingRequest{StoreAs: "vm"})
	record(t, l, r, nil, EndedClean)
	libtest.Equal(t, "state of nothing", recordingNow(t, l, r.ID).State, StateSealed)
	sound := mp3Sound(20)
	record(t, l, r, sound, EndedClean)
	now := checkWhole(t, l, r.ID, sound, 0, 0)
	libtest.Equal(t, "state", now.State, StateStored)
	libtest.Equal(t, "references", len(refs(t, l.rows)), 1)
	_, err := l.Claim(t.Context(), ticketRequest(l, r))
	libtest.WantErr(t, "claim after an end in order", err, ErrTicketUsed)

	r = ticket(t, l, RecordingRequest{})
	record(t, l, r, nil, EndedClean)
	l.cfg.TakeoverGrace = time.Nanosecond
	_, err = l.Claim(t.Context(), ticketRequest(l, r))
	libtest.WantErr(t, "claim after the grace", err, ErrTicketUsed)
}

// Goal: more than a session keeps in memory is copied, too.
func TestTakeoverOfALongRecording(t *testing.T) {
	t.Parallel()
	l := openLibrary(t, takeoverConfig(), testDeps(libtest.OpenStore(t, t.TempDir())))
	r := ticket(t, l, RecordingRequest{})
	first := mp3Sound((blobstore.LiveBufferBytesMax + 1<<20) / mp3FrameBytes)
	s := libtest.Must[*Session](t)(l.Claim(t.Context(), ticketRequest(l, r)))
	for piece := range slices.Chunk(first, 1<<20) {
		libtest.Must[int](t)(s.Write(piece))
		if err := s.durable(libtest.Bounded(t)); err != nil {
			t.Fatal(err)
		}
	}
	libtest.WantErr(t, "close", s.Close(libtest.Bounded(t), EndedCut), nil)
	second, began := mp3Sound(10), time.Now()
	s = libtest.Must[*Session](t)(l.Claim(t.Context(), ticketRequest(l, r)))
	t.Logf("%d bytes were copied in %v", len(first), time.Since(began))
	write(t, s, second)
	libtest.WantErr(t, "close", s.Close(libtest.Bounded(t), EndedClean), nil)
	checkWhole(t, l, r.ID, append(bytes.Clone(first), second...), 0, int64(len(first)))
}
