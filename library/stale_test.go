package library

import (
	"bytes"
	"strings"
	"testing"

	"carillon/blobstore"
	"carillon/library/libtest"
)

// lag makes the catalog say what it says now until somebody asks for more.
func lag(t *testing.T, f *faulty, keys ...string) (begin func()) {
	t.Helper()
	stale := make(map[string]blobstore.Row)
	for _, key := range keys {
		row, _ := f.Local.Get(t.Context(), key) // none is also something to say
		stale[key] = row
	}
	return func() { f.set(func(f *faulty) { f.stale = stale }) }
}

// TestOwnWrites: what a client did through one node it finds done on another
// that has not applied it yet.
func TestOwnWrites(t *testing.T) {
	t.Parallel()
	l, f := newFaulty(t)
	ctx := t.Context()

	begin := lag(t, f, mediaKey("acme", "x"))
	first := put(t, l, "acme", "x", mp3Sound(3), PutOptions{})
	begin()
	got := libtest.Must[Document](t)(l.Get(ctx, "acme", "x", Fresh))
	libtest.Equal(t, "revision", got.Revision, first.Revision)

	begin = lag(t, f, mediaKey("acme", "x"))
	second := put(t, l, "acme", "x", mp3Sound(4), PutOptions{})
	token := libtest.Must[string](t)(l.playToken(ctx, &second))
	begin()
	got = libtest.Must[Document](t)(l.OpenPlay(ctx, token))
	libtest.Equal(t, "revision that is played", got.Revision, second.Revision)
	begin()
	third, created, err := l.Put(ctx, "acme", "x", bytes.NewReader(mp3Sound(5)),
		PutOptions{Length: -1, IfMatch: second.ETag()})
	libtest.WantErr(t, "put over the second", err, nil)
	libtest.Equal(t, "created", created, false)
	begin = lag(t, f, mediaKey("acme", "x"))
	libtest.WantErr(t, "delete", l.Delete(ctx, "acme", "x", third.ETag()), nil)
	begin()
	libtest.WantErr(t, "delete again", l.Delete(ctx, "acme", "x", ""), ErrNotFound)
}

// TestOwnRecordings: the same for recordings.
func TestOwnRecordings(t *testing.T) {
	t.Parallel()
	l, f := newFaulty(t)
	ctx := t.Context()
	r := ticket(t, l, RecordingRequest{})
	begin := lag(t, f, recordingKey(r.ID))
	s := libtest.Must[*Session](t)(l.Claim(ctx, ticketRequest(l, r)))
	begin()
	reader, _, err := l.OpenRecording(ctx, r.ID, FromStart)
	libtest.WantErr(t, "open a recording that has begun elsewhere", err, nil)
	libtest.WantErr(t, "close", reader.Close(), nil)

	begin = lag(t, f, recordingKey(r.ID))
	write(t, s, mp3Sound(10))
	libtest.WantErr(t, "close", s.Close(libtest.Bounded(t), EndedClean), nil)
	begin()
	d := libtest.Must[Document](t)(l.StoreRecording(ctx, r.ID, StoreRequest{Account: "acme", ID: "stored"}))
	libtest.Equal(t, "frames", d.Audio.Frames, 10)

	q := SourceRequest{Mount: "m.mp3", User: "foo", Password: "bar"}
	s = libtest.Must[*Session](t)(l.Claim(ctx, q))
	holder := s.Recording()
	begin = lag(t, f, liveKey("acme", "m.mp3"), recordingKey(holder.ID))
	libtest.WantErr(t, "close", s.Close(libtest.Bounded(t), EndedClean), nil)
	l.deps.NodeID = "node-2" // or the holder would be known to have left
	begin()
	s = libtest.Must[*Session](t)(l.Claim(ctx, q))
	if got := s.Recording(); got.ID == holder.ID || strings.Compare(got.ID, holder.ID) < 0 {
		t.Errorf("recording %s follows %s", got.ID, holder.ID)
	}
	libtest.WantErr(t, "close", s.Close(libtest.Bounded(t), EndedClean), nil)
}
