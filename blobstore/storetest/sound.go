package storetest

import (
	"bytes"
	"io"
	"testing"

	"carillon/blobstore"
)

// whole is a body as a Recorder hands it to a Txn.
func (s *suite) whole(t *testing.T, body []byte) *blobstore.Sound {
	t.Helper()
	rec := blobstore.NewRecorder(s.ctx(), s.Writer, blobstore.RecorderConfig{})
	t.Cleanup(rec.Release)
	if _, err := rec.Write(body); err != nil {
		t.Fatal(err)
	}
	sound, ok, err := rec.Whole()
	if err != nil || !ok {
		t.Fatalf("whole body of %d bytes: %v, %v", len(body), ok, err)
	}
	return &sound
}

func (s *suite) wantSound(t *testing.T, id blobstore.ID, want []byte) {
	t.Helper()
	r, err := s.Open(s.ctx(), id)
	must(t, "open", err)
	got, err := io.ReadAll(r)
	must(t, "read", err)
	must(t, "close", r.Close())
	if info := r.Info(); !bytes.Equal(got, want) || !info.Sealed || info.Totals != blobstore.TotalsOf(want) {
		t.Errorf("blob of %d bytes, %+v; want %d", len(got), info, len(want))
	}
}

// testSound: the sound of a transaction is there with its rows, whatever its
// size; a repeated or refused commit harms nothing, and what does not match its
// totals is refused.
func testSound(s *suite) {
	t := s.t
	p := space()
	for i, size := range []int{0, 1, 1000, blobstore.ChunkBytesMax} {
		body := sample(byte(40+i), size)
		sound := s.whole(t, body)
		key := p + sound.ID.String()
		txn := blobstore.Txn{
			If:  []blobstore.Cond{{Key: key}},
			Put: []blobstore.Row{row(key, "doc"), row(blobstore.RefKey(sound.ID, key), "")}, Sound: sound,
		}
		_, err := s.Commit(s.ctx(), txn)
		must(t, "commit with sound", err)
		s.wantSound(t, sound.ID, body)
		_, err = s.Commit(s.ctx(), txn)
		wantErr(t, "the same again", err, blobstore.ErrConflict)
		s.wantSound(t, sound.ID, body)
		must(t, "put what is there", s.Put(s.ctx(), sound.ID, sound.Spec, body, sound.Totals))
	}
	wrong := s.whole(t, sample(50, 100))
	wrong.Totals.Root++
	_, err := s.Commit(s.ctx(), blobstore.Txn{Put: []blobstore.Row{row(p+"never", "")}, Sound: wrong})
	wantErr(t, "sound with other totals", err, blobstore.ErrCorrupt)
	_, err = s.Get(s.ctx(), p+"never")
	wantErr(t, "its row", err, blobstore.ErrNotFound)

	long := blobstore.NewRecorder(s.ctx(), s.Writer, blobstore.RecorderConfig{})
	_, err = long.Write(sample(51, blobstore.ChunkBytesMax+1))
	must(t, "write more than a chunk", err)
	if _, ok, err := long.Whole(); ok || err != nil {
		t.Errorf("more than a chunk is whole: %v, %v", ok, err)
	}
	must(t, "abort", long.Abort(s.ctx()))
}
