package library

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"carillon/audio"
	"carillon/audio/layer3"
	"carillon/library/field"
	"carillon/library/libtest"
)

// Goal: what is not a limit is refused by name, and networks have one form.
func TestTicketLimitsChecked(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	for _, bad := range []TicketLimits{
		{MaxSeconds: -1},
		{MaxSeconds: ticketSecondsMax + 1},
		{MaxBytes: -1},
		{MaxBytes: RecordingBytesMaxDefault + 1},
		{MinMS: -1},
		{MinMS: ticketMinMSMax + 1},
		{MaxSeconds: 1, MinMS: 1001},
		{Allow: []string{"10.0.0.0/33"}},
		{Allow: []string{"node1"}},
		{Allow: []string{""}},
		{Allow: make([]string, ticketAllowMax+1)},
	} {
		_, err := l.CreateRecording(t.Context(), RecordingRequest{Account: "acme", TicketLimits: bad})
		libtest.WantErr(t, "limits", err, ErrBadRequest)
	}
	_, err := l.CreateRecording(t.Context(), RecordingRequest{
		Account: "acme", TTLSeconds: -1, Metadata: map[string]string{"": "x"},
		TicketLimits: TicketLimits{MaxSeconds: -1, MaxBytes: -1, MinMS: -1, Allow: []string{"x"}},
	})
	fields, _ := errors.AsType[field.Errors](err)
	libtest.Equal(t, "fields at fault", strings.Join(slices.Sorted(maps.Keys(fields)), " "),
		"allow max_bytes max_seconds metadata min_ms ttl_seconds")
	r := ticket(t, l, RecordingRequest{
		TicketLimits: TicketLimits{Allow: []string{"10.1.2.3/8", "::ffff:1.2.3.4"}},
	})
	now := recordingNow(t, l, r.ID)
	if len(now.Allow) != 2 || now.Allow[0] != "10.0.0.0/8" || now.Allow[1] != "1.2.3.4/32" {
		t.Errorf("allow is %q", now.Allow)
	}
}

// Goal: a ticket opens for the addresses that it names and no others.
func TestTicketAllow(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	r := ticket(t, l, RecordingRequest{TicketLimits: TicketLimits{Allow: []string{"10.0.0.0/8", "fd00::1"}}})
	request := ticketRequest(l, r)
	for _, from := range []string{"192.168.1.1:5", "[fd00::2]:5", "", "nonsense"} {
		request.RemoteAddr = from
		_, err := l.Claim(t.Context(), request)
		libtest.WantErr(t, "claim from "+from, err, ErrUnauthorized)
	}
	request.RemoteAddr = "[::ffff:10.9.9.9]:40000"
	s := libtest.Must[*Session](t)(l.Claim(t.Context(), request))
	libtest.WantErr(t, "close", s.Close(libtest.Bounded(t), EndedClean), nil)
}

// Goal: at a limit of its ticket a recording is whole, at the node's it is not.
func TestTicketLimitsEndARecording(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.RecordingBytesMax = 100 * mp3FrameBytes
	l := openLibrary(t, cfg, testDeps(libtest.OpenStore(t, t.TempDir())))
	for _, c := range []struct {
		limits TicketLimits
		state  State
		by     EndedBy
		size   int64
	}{
		{TicketLimits{MaxSeconds: 3}, StateSealed, EndedByMaxSeconds, 42 * mp3FrameBytes},
		{TicketLimits{MaxBytes: 1000}, StateSealed, EndedByMaxBytes, 1000},
		{TicketLimits{}, StateTruncated, EndedByNodeLimit, 100 * mp3FrameBytes},
	} {
		r := ticket(t, l, RecordingRequest{TicketLimits: c.limits})
		s := libtest.Must[*Session](t)(l.Claim(t.Context(), ticketRequest(l, r)))
		sound, err := mp3Sound(200), error(nil)
		for at := 0; err == nil && at < len(sound); at += mp3FrameBytes {
			_, err = s.Write(sound[at : at+mp3FrameBytes])
		}
		libtest.WantErr(t, "write at the limit", err, ErrTooLarge)
		libtest.WantErr(t, "close", s.Close(libtest.Bounded(t), EndedCut), nil)
		now := recordingNow(t, l, r.ID)
		libtest.Equal(t, "state", now.State, c.state)
		libtest.Equal(t, "ended by", now.EndedBy, c.by)
		libtest.Equal(t, "size", now.Size, c.size)
	}
}

// Goal: what is shorter than its ticket wants is dropped, and says so; its
// sound is not kept by anything.
func TestTicketMinimum(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	limits := TicketLimits{MinMS: 500}
	short := ticket(t, l, RecordingRequest{StoreAs: "vm", TicketLimits: limits})
	record(t, l, short, mp3Sound(6), EndedClean)
	now := recordingNow(t, l, short.ID)
	libtest.Equal(t, "state", now.State, StateDiscarded)
	libtest.Equal(t, "ended by", now.EndedBy, EndedByTooShort)
	if left := refs(t, local); len(left) != 0 {
		t.Errorf("references are left: %q", left)
	}
	_, err := l.Get(t.Context(), "acme", "vm", Fresh)
	libtest.WantErr(t, "item", err, ErrNotFound)
	l.pass(t.Context(), time.Now().Add(2*discardedKept))
	_, err = l.Recording(t.Context(), short.ID)
	libtest.WantErr(t, "later", err, ErrNotFound)

	long := ticket(t, l, RecordingRequest{StoreAs: "vm", TicketLimits: limits})
	record(t, l, long, mp3Sound(7), EndedClean)
	libtest.Equal(t, "state", recordingNow(t, l, long.ID).State, StateStored)
}

// Goal: the silence of a FreeSWITCH that buffers file writes is recognised by
// what one really sent, and nothing else is.
func TestWriteBufferingWarning(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	wire, err := os.ReadFile("testdata/write-buffering.mp3")
	if err != nil {
		t.Fatal(err)
	}
	r := ticket(t, l, RecordingRequest{})
	record(t, l, r, wire, EndedClean)
	libtest.Equal(t, "warning", recordingNow(t, l, r.ID).Warning, WarningWriteBuffering)

	r = ticket(t, l, RecordingRequest{})
	sound := libtest.Must[[]byte](t)(layer3.Encode(audio.Sine(8000, 440, 0.5, time.Second), 8000, 16000))
	sound = sound[:6*mp3FrameBytes] // as long, and not silent
	record(t, l, r, sound, EndedClean)
	libtest.Equal(t, "warning", recordingNow(t, l, r.ID).Warning, "")
}

// Goal: an item takes what its store request says, and over it what stays.
func TestStoreRecordingWithFields(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	r := ticket(t, l, RecordingRequest{Metadata: map[string]string{"call": "7", "box": "100"}})
	record(t, l, r, mp3Sound(20), EndedClean)
	request := StoreRequest{
		Account: "acme", ID: "g", Name: "Greeting", Description: "of box 100", Language: "EN-us",
		Prompt: "vm-greeting", Metadata: map[string]string{"box": "200"}, IfMatch: "*",
	}
	_, err := l.StoreRecording(t.Context(), r.ID, request)
	libtest.WantErr(t, "if-match on nothing", err, ErrPrecondition)
	request.IfMatch, request.IfNoneMatch = "", "*"
	d := libtest.Must[Document](t)(l.StoreRecording(t.Context(), r.ID, request))
	libtest.Equal(t, "name", d.Name, "Greeting")
	libtest.Equal(t, "description", d.Description, "of box 100")
	libtest.Equal(t, "prompt", d.Prompt+" "+d.Language, "vm-greeting en-us")
	libtest.Equal(t, "metadata", d.Metadata["call"]+d.Metadata["box"], "7200")

	again := ticket(t, l, RecordingRequest{})
	record(t, l, again, mp3Sound(20), EndedClean)
	_, err = l.StoreRecording(t.Context(), again.ID, request)
	libtest.WantErr(t, "if-none-match", err, ErrPrecondition)
	libtest.Equal(t, "state", recordingNow(t, l, again.ID).State, StateSealed)
}

// Goal: a program that always logs in as "source" has the whole ticket in its
// password; no other user has.
func TestTicketAsPassword(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	r := ticket(t, l, RecordingRequest{})
	request := ticketRequest(l, r)
	whole := request.User + ":" + request.Password
	for _, bad := range []SourceRequest{
		{Mount: request.Mount, User: "foo", Password: whole},
		{Mount: request.Mount, User: "source", Password: request.Password},
		{Mount: request.Mount, User: "source", Password: whole + "x"},
		{Mount: request.Mount, User: "source", Password: ":" + request.Password},
		{Mount: request.Mount, User: "source", Password: "not-an-id:" + request.Password},
	} {
		_, err := l.Claim(t.Context(), bad)
		libtest.WantErr(t, bad.User+":"+bad.Password, err, ErrUnauthorized)
	}
	_, err := l.Claim(t.Context(), SourceRequest{Mount: "other.mp3", User: "source", Password: whole})
	libtest.WantErr(t, "another mount", err, ErrNotFound)
	s := libtest.Must[*Session](t)(
		l.Claim(t.Context(), SourceRequest{Mount: request.Mount, User: "source", Password: whole}))
	libtest.WantErr(t, "close", s.Close(libtest.Bounded(t), EndedClean), nil)
	libtest.Equal(t, "state", recordingNow(t, l, r.ID).State, StateSealed)
}
