package library

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"carillon/blobstore"
	"carillon/library/libtest"
	"carillon/library/rows"
)

func ingest(t *testing.T, l *Library, r IngestRequest, body []byte) (Recording, bool, error) {
	t.Helper()
	r.Length = int64(len(body))
	return l.IngestRecording(t.Context(), r, bytes.NewReader(body))
}

// TestIngest: a file becomes the recording, once, durably; the same again is
// success, as a switch whose answer got lost needs it, and leaves no blob.
func TestIngest(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	r := ticket(t, l, RecordingRequest{Name: "vm.wav", StoreAs: "vm/1"})
	request := IngestRequest{RecordingID: r.ID, Password: r.Token, ContentType: "audio/x-wav"}
	sound := wavSound(8000)
	rec, created, err := ingest(t, l, request, sound)
	if err != nil || !created {
		t.Fatal(created, err)
	}
	libtest.Equal(t, "state", rec.State, StateStored)
	libtest.Equal(t, "duration", rec.DurationMS, 1000)
	libtest.Equal(t, "ended by", rec.EndedBy, EndedBySource)
	d := libtest.Must[Document](t)(l.Get(t.Context(), "acme", "vm/1", Fresh))
	if !bytes.Equal(readItem(t, l, d), sound) {
		t.Error("the item holds other bytes")
	}
	again, created, err := ingest(t, l, request, sound)
	if err != nil || created || again.ID != rec.ID || again.SHA256 != rec.SHA256 {
		t.Errorf("again: %+v, %v, %v", again, created, err)
	}
	_, _, err = ingest(t, l, request, wavSound(100))
	libtest.WantErr(t, "other bytes", err, ErrTicketUsed)
	libtest.Equal(t, "references", len(refs(t, local)), 1)
	libtest.Equal(t, "active rows", len(libtest.Keys(t, local, activePrefix)), 0)
	m := libtest.Must[Mount](t)(l.Mount(t.Context(), "acme", "vm.wav"))
	if m.Doc == nil || m.Doc.ID != "vm/1" {
		t.Errorf("under its media name it is %+v", m)
	}
}

// Goal: a file that is longer than its ticket allows ends there, and is so
// again when it comes a second time in other pieces.
func TestIngestIsCut(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	for name, sound := range map[string][]byte{"a.wav": wavSound(80_000), "a.mp3": mp3Sound(200)} {
		r := ticket(t, l, RecordingRequest{Name: name, TicketLimits: TicketLimits{MaxSeconds: 3}})
		request := IngestRequest{RecordingID: r.ID, Password: r.Token, Length: int64(len(sound))}
		rec, created, err := l.IngestRecording(t.Context(), request, bytes.NewReader(sound))
		if err != nil || !created || rec.State != StateSealed || rec.EndedBy != EndedByMaxSeconds {
			t.Fatalf("%s: %+v, %v, %v", name, rec, created, err)
		}
		if rec.DurationMS < 3000 || rec.DurationMS > 5200 || rec.Size%cutBlockBytes != 0 {
			t.Errorf("%s: %d ms in %d bytes", name, rec.DurationMS, rec.Size)
		}
		request.Length = -1
		again, created, err := l.IngestRecording(t.Context(), request, iotest.HalfReader(bytes.NewReader(sound)))
		if err != nil || created || again.SHA256 != rec.SHA256 {
			t.Errorf("%s again: %+v, %v, %v", name, again, created, err)
		}
		short := ticket(t, l, RecordingRequest{Name: name, TicketLimits: TicketLimits{MaxSeconds: 3}})
		request = IngestRequest{RecordingID: short.ID, Password: short.Token, Length: int64(len(sound)) + 1}
		_, _, err = l.IngestRecording(t.Context(), request, bytes.NewReader(sound))
		libtest.WantErr(t, "a byte is missing", err, ErrIncomplete)
	}
}

// Goal: who may not is refused before a byte is read, and what is no sound or
// not whole leaves the ticket as it was.
func TestIngestRefused(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	limits := TicketLimits{MaxBytes: 20_000, Allow: []string{"10.0.0.1"}}
	r := ticket(t, l, RecordingRequest{TicketLimits: limits})
	good := IngestRequest{RecordingID: r.ID, Password: r.Token, RemoteAddr: "10.0.0.1:9", Length: -1}
	unread := iotest.ErrReader(io.ErrClosedPipe)
	for name, c := range map[string]struct {
		change func(*IngestRequest)
		want   error
	}{
		"wrong password": {func(q *IngestRequest) { q.Password = "x" }, ErrUnauthorized},
		"no password":    {func(q *IngestRequest) { q.Password = "" }, ErrUnauthorized},
		"unknown":        {func(q *IngestRequest) { q.RecordingID = rows.NewID(time.Now()) }, ErrUnauthorized},
		"nonsense":       {func(q *IngestRequest) { q.RecordingID = "../x" }, ErrUnauthorized},
		"other address":  {func(q *IngestRequest) { q.RemoteAddr = "10.0.0.2:9" }, ErrUnauthorized},
		"trusted unknown": {
			func(q *IngestRequest) { q.Trusted, q.RecordingID = true, rows.NewID(time.Now()) }, ErrNotFound,
		},
		"no audio": {func(q *IngestRequest) { q.ContentType = "text/html" }, ErrUnsupportedMedia},
		"too long": {func(q *IngestRequest) { q.Length = 20_001 }, ErrTooLarge},
	} {
		q := good
		c.change(&q)
		_, _, err := l.IngestRecording(t.Context(), q, unread)
		libtest.WantErr(t, name, err, c.want)
	}
	for name, c := range map[string]struct {
		body string
		want error
	}{
		"text":     {"hello", ErrUnsupportedMedia},
		"nothing":  {"", ErrUnsupportedMedia},
		"too much": {string(mp3Sound(200)), ErrTooLarge},
	} {
		_, _, err := l.IngestRecording(t.Context(), good, strings.NewReader(c.body))
		libtest.WantErr(t, name, err, c.want)
	}
	libtest.Equal(t, "references", len(refs(t, local)), 0)
	libtest.Equal(t, "state", recordingNow(t, l, r.ID).State, StateWaiting)

	q := ticketRequest(l, r)
	q.RemoteAddr = good.RemoteAddr
	s := libtest.Must[*Session](t)(l.Claim(t.Context(), q))
	_, _, err := l.IngestRecording(t.Context(), good, unread)
	libtest.WantErr(t, "while a source is live", err, ErrState)
	libtest.WantErr(t, "close", s.Close(libtest.Bounded(t), EndedClean), nil)
}

// Goal: what holds for a source's end holds for a file's: its least length,
// and the mark of a switch that buffers.
func TestIngestJudges(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	wire, err := os.ReadFile("testdata/write-buffering.mp3")
	if err != nil {
		t.Fatal(err)
	}
	r := ticket(t, l, RecordingRequest{})
	rec, _, err := ingest(t, l, IngestRequest{RecordingID: r.ID, Trusted: true}, wire)
	if err != nil || rec.Warning != WarningWriteBuffering {
		t.Errorf("warning is %q, %v", rec.Warning, err)
	}
	r = ticket(t, l, RecordingRequest{TicketLimits: TicketLimits{MinMS: 1000}})
	rec, _, err = ingest(t, l, IngestRequest{RecordingID: r.ID, Trusted: true}, wire)
	if err != nil || rec.State != StateDiscarded || rec.EndedBy != EndedByTooShort {
		t.Errorf("recording is %s by %s, %v", rec.State, rec.EndedBy, err)
	}
}

// TestRerecord: the old sound is heard until there is new sound, and then
// gone; a second try that brings none leaves it alone.
func TestRerecord(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	ctx := t.Context()
	heard := func() string {
		m := libtest.Must[Mount](t)(l.Mount(ctx, "acme", "vm.mp3"))
		if m.Recording == nil {
			t.Fatalf("mount is %+v", m)
		}
		return m.Recording.ID
	}
	first := ticket(t, l, RecordingRequest{
		Name: "vm.mp3", Metadata: map[string]string{"box": "1"}, TicketLimits: TicketLimits{MaxSeconds: 60},
	})
	_, err := l.Rerecord(ctx, first.ID)
	libtest.WantErr(t, "while waiting", err, ErrState)
	record(t, l, first, mp3Sound(20), EndedClean)

	silent := libtest.Must[Recording](t)(l.Rerecord(ctx, first.ID))
	if silent.Token == "" || silent.Name != "vm.mp3" || silent.Replaces != first.ID ||
		silent.Metadata["box"] != "1" || silent.MaxSeconds != 60 || silent.Expires == nil {
		t.Errorf("ticket is %+v", silent)
	}
	libtest.Equal(t, "heard while waiting", heard(), first.ID)
	record(t, l, silent, nil, EndedCut)
	libtest.Equal(t, "state of the first", recordingNow(t, l, first.ID).State, StateSealed)
	libtest.Equal(t, "heard after silence", heard(), first.ID)

	second := libtest.Must[Recording](t)(l.Rerecord(ctx, first.ID))
	s := libtest.Must[*Session](t)(l.Claim(ctx, ticketRequest(l, second)))
	write(t, s, mp3Sound(10))
	libtest.Equal(t, "heard while live", heard(), second.ID)
	libtest.WantErr(t, "close", s.Close(libtest.Bounded(t), EndedClean), nil)
	old := recordingNow(t, l, first.ID)
	libtest.Equal(t, "state of the first", old.State, StateDiscarded)
	libtest.Equal(t, "ended by", old.EndedBy, EndedByRerecord)
	libtest.Equal(t, "references", len(refs(t, local)), 2) // the silent one has an empty blob
	libtest.Must[Document](t)(l.StoreRecording(ctx, second.ID, StoreRequest{Account: "acme", ID: "kept"}))
	_, err = l.Rerecord(ctx, second.ID)
	libtest.WantErr(t, "when stored", err, ErrState)
}

// Goal: without a leader the file is kept in the spool and becomes the item
// where it is looked for; a ticket that nobody can see is refused.
func TestIngestIsSpooled(t *testing.T) {
	t.Parallel()
	s := newSpooling(t)
	short := ticket(t, s.Library, RecordingRequest{Name: "vm/1.wav", Metadata: map[string]string{"box": "1"}})
	long := ticket(t, s.Library, RecordingRequest{Name: "vm/2.wav", StoreAs: "kept.wav"})
	s.lose()
	sounds := map[string][]byte{"vm/1.wav": wavSound(100), "kept.wav": wavSound(400_000)}
	for item, r := range map[string]Recording{"vm/1.wav": short, "kept.wav": long} {
		request := IngestRequest{RecordingID: r.ID, Password: r.Token}
		rec, created, err := ingest(t, s.Library, request, sounds[item])
		if err != nil || created || rec.SpoolID == "" {
			t.Fatalf("%s: %+v, %v", item, rec, err)
		}
	}
	s.close()
	s.open()
	s.find()
	s.plays("kept.wav", sounds["kept.wav"])
	libtest.WaitFor(t, "the recordings have their sound", func() bool {
		return recordingNow(t, s.Library, short.ID).State == StateSealed &&
			recordingNow(t, s.Library, long.ID).State == StateStored
	})
	rec := recordingNow(t, s.Library, short.ID)
	libtest.Equal(t, "metadata and end", rec.Metadata["box"]+string(rec.EndedBy), "1"+string(EndedBySource))
	reader, _, err := s.OpenRecording(t.Context(), short.ID, FromStart)
	if err != nil || !bytes.Equal(readAll(t, reader), sounds["vm/1.wav"]) {
		t.Errorf("the recording holds other bytes, %v", err)
	}
}

// Goal: a file that was spooled and whose ticket was used by another meanwhile is
// kept as an item, where it is looked for.
func TestSpooledIngestOfUsedTicket(t *testing.T) {
	t.Parallel()
	s := newSpooling(t)
	r := ticket(t, s.Library, RecordingRequest{Name: "vm/1.wav", Metadata: map[string]string{"box": "1"}})
	s.lose()
	request, mine := IngestRequest{RecordingID: r.ID, Password: r.Token}, wavSound(100)
	if rec, _, err := ingest(t, s.Library, request, mine); err != nil || rec.SpoolID == "" {
		t.Fatalf("%+v, %v", rec, err)
	}
	other := openLibrary(t, testConfig(), testDeps(s.f.Local)) // where there is a leader
	if _, _, err := ingest(t, other, request, wavSound(200)); err != nil {
		t.Fatal(err)
	}
	s.find()
	s.plays("vm/1.wav", mine)
	d := libtest.Must[Document](t)(s.Get(t.Context(), "acme", "vm/1.wav", Fresh))
	libtest.Equal(t, "metadata", d.Metadata["recording_id"]+d.Metadata["box"]+d.Source, r.ID+"1recording")
}

// Goal: a file that was committed although nobody told its node, and one that the
// switch sends again because the first answer was lost, count once: there is one
// recording with one blob, and no item beside it.
func TestIngestCountsOnce(t *testing.T) {
	t.Parallel()
	for _, unheard := range []bool{true, false} {
		s := newSpooling(t)
		r := ticket(t, s.Library, RecordingRequest{Name: "vm/1.wav"})
		request, sound := IngestRequest{RecordingID: r.ID, Password: r.Token}, wavSound(400_000)
		s.lose()
		if unheard {
			s.f.set(func(f *faulty) {
				f.write, f.fresh = nil, nil
				f.commit = func(ctx context.Context, txn blobstore.Txn) (uint64, error) {
					if _, err := f.Local.Commit(ctx, txn); err != nil {
						return 0, err
					}
					<-ctx.Done()
					return 0, blobstore.ErrUnavailable
				}
			})
		}
		rec, created, err := ingest(t, s.Library, request, sound)
		if err != nil || created || rec.SpoolID == "" {
			t.Fatalf("%+v, %v", rec, err)
		}
		other := openLibrary(t, testConfig(), testDeps(s.f.Local))
		if _, created, err = ingest(t, other, request, sound); err != nil || created == unheard {
			t.Fatal(created, err)
		}
		s.find()
		libtest.WaitFor(t, "the spool is empty", func() bool { return s.spool.Stats().Items == 0 })
		libtest.Equal(t, "put aside", s.spool.Stats().Quarantined, 0)
		libtest.Equal(t, "references", len(refs(t, s.f.Local)), 1)
		_, err = s.Get(t.Context(), "acme", "vm/1.wav", Linearizable)
		libtest.Equal(t, "status of an item", FaultOf(err).Status, 404)
		libtest.Equal(t, "state", recordingNow(t, s.Library, r.ID).State, StateSealed)
	}
}
