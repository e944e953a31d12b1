package library

import (
	"bytes"
	"strings"
	"testing"

	"carillon/blobstore"
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
	got := must[Document](t)(l.Get(ctx, "acme", "x", Fresh))
	equal(t, "revision", got.Revision, first.Revision)

	begin = lag(t, f, mediaKey("acme", "x"))
	second := put(t, l, "acme", "x", mp3Sound(4), PutOptions{})
	token := must[string](t)(l.playToken(ctx, &second))
	begin()
	got = must[Document](t)(l.OpenPlay(ctx, token))
	equal(t, "revision that is played", got.Revision, second.Revision)
	begin()
	third, created, err := l.Put(ctx, "acme", "x", bytes.NewReader(mp3Sound(5)),
		PutOptions{Length: -1, IfMatch: second.ETag()})
	wantErr(t, "put over the second", err, nil)
	equal(t, "created", created, false)
	begin = lag(t, f, mediaKey("acme", "x"))
	wantErr(t, "delete", l.Delete(ctx, "acme", "x", third.ETag()), nil)
	begin()
	wantErr(t, "delete again", l.Delete(ctx, "acme", "x", ""), ErrNotFound)
}

// TestOwnRecordings: the same for recordings.
func TestOwnRecordings(t *testing.T) {
	t.Parallel()
	l, f := newFaulty(t)
	ctx := t.Context()
	r := ticket(t, l, RecordingRequest{})
	begin := lag(t, f, recordingKey(r.ID))
	s := must[*Session](t)(l.Claim(ctx, ticketRequest(l, r)))
	begin()
	reader, _, err := l.OpenRecording(ctx, r.ID, FromStart)
	wantErr(t, "open a recording that has begun elsewhere", err, nil)
	wantErr(t, "close", reader.Close(), nil)

	begin = lag(t, f, recordingKey(r.ID))
	write(t, s, mp3Sound(10))
	wantErr(t, "close", s.Close(bounded(t), EndedClean), nil)
	begin()
	d := must[Document](t)(l.StoreRecording(ctx, r.ID, StoreRequest{Account: "acme", ID: "stored"}))
	equal(t, "frames", d.Audio.Frames, 10)

	q := SourceRequest{Mount: "m.mp3", User: "foo", Password: "bar"}
	s = must[*Session](t)(l.Claim(ctx, q))
	holder := s.Recording()
	begin = lag(t, f, liveKey("acme", "m.mp3"), recordingKey(holder.ID))
	wantErr(t, "close", s.Close(bounded(t), EndedClean), nil)
	l.deps.NodeID = "node-2" // or the holder would be known to have left
	begin()
	s = must[*Session](t)(l.Claim(ctx, q))
	if got := s.Recording(); got.ID == holder.ID || strings.Compare(got.ID, holder.ID) < 0 {
		t.Errorf("recording %s follows %s", got.ID, holder.ID)
	}
	wantErr(t, "close", s.Close(bounded(t), EndedClean), nil)
}
