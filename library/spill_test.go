package library

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"carillon/blobstore"
	"carillon/library/libtest"
)

// Goal: what a thousand recordings spill at one look costs one sync of the disk,
// and so does that the leader is back.
func TestSpillOfThousand(t *testing.T) {
	t.Parallel()
	const n = 1000
	s := newSpooling(t)
	all := make([]*Session, n)
	for k := range all {
		asked := RecordingRequest{Account: "acme", Name: fmt.Sprintf("%d.mp3", k)}
		ticket := libtest.Must[Recording](t)(s.CreateRecording(t.Context(), asked))
		all[k] = s.claim(ticketRequest(s.Library, ticket))
	}
	s.lose()
	s.write(all[0], mp3Sound(1))
	s.keep(t.Context(), all[:1], time.Now().Add(spoolAfter)) // and the segment
	sound := mp3Sound(2)
	for round := range 3 {
		s.look("spill", all, sound, spoolAfter)
		if got := s.spool.Stats(); got.Items != n {
			t.Errorf("round %d: %d items of %d", round, got.Items, n)
		}
	}
	s.spilled(3*n*len(sound) + len(mp3Sound(1)))
	s.find()
	libtest.WaitFor(t, "the cluster has all of it", func() bool {
		for _, session := range all {
			if session.live.Durable() != session.live.Size() {
				return false
			}
		}
		return true
	})
	s.look("the leader is back", all, nil, 0)
	libtest.Equal(t, "items", s.spool.Stats().Items, 0)
}

// look writes sound to all sessions and looks at them once, so much later. With
// the looks of the library itself it may sync once each.
func (s *spooling) look(what string, all []*Session, sound []byte, later time.Duration) {
	s.t.Helper()
	before, began := s.spool.Stats().Syncs, time.Now()
	for _, session := range all {
		s.write(session, sound)
	}
	s.keep(s.t.Context(), all, time.Now().Add(later))
	syncs, looks := s.spool.Stats().Syncs-before, 2+uint64(time.Since(began)/spoolLook)
	if syncs > looks {
		s.t.Errorf("%s: %d syncs by at most %d looks", what, syncs, looks)
	}
}

// Goal: a recording leaves the spool as soon as the cluster takes its bytes in
// time again, though bytes always wait; what it spills later has no gap in it.
func TestSpillEnds(t *testing.T) {
	t.Parallel()
	s := newSpooling(t)
	ticket := libtest.Must[Recording](t)(s.CreateRecording(t.Context(), RecordingRequest{Account: "acme"}))
	session := s.claim(ticketRequest(s.Library, ticket))
	all, sound := []*Session{session}, mp3Sound(10)
	s.lose()
	s.write(session, sound)
	s.keep(t.Context(), all, time.Now().Add(spoolAfter))
	session.keeping.Lock() // the library does not look now
	look := sync.OnceFunc(session.keeping.Unlock)
	defer look()
	s.find()
	s.write(session, sound) // which waits for too short a time to be spilled
	durable := 2 * int64(len(sound))
	libtest.WaitFor(t, "the cluster has it", func() bool { return session.live.Durable() == durable })
	s.lose()
	s.write(session, sound)
	b := s.Library.spool.Batch()
	session.stage(t.Context(), b, time.Now().Add(spoolAfter))
	err := b.Commit()
	session.staged(t.Context(), err)
	look()
	items, held := s.spool.Items(), int64(0)
	libtest.Equal(t, "items", len(items), 1)
	err = errors.Join(err, items[0].Replay(func(op blobstore.Op) error {
		held += int64(len(op.Data))
		return nil
	}))
	start, end := items[0].Extent()
	if err != nil || start > durable || end != session.live.Size() || held != end-start {
		t.Errorf("spilled are %d bytes from %d to %d, %v", held, start, end, err)
	}
	s.find()
	libtest.WaitFor(t, "it is out of the spool", func() bool {
		s.write(session, sound[:mp3FrameBytes]) // something waits at each look
		return s.spool.Stats().Items == 0
	})
}

// Goal: a full spool refuses uploads, and a recording goes on in memory until
// there is room or a leader.
func TestSpoolIsFull(t *testing.T) {
	t.Parallel()
	s := newSpooling(t)
	s.close()
	s.bytesMax = 8 << 10
	s.open()
	ticket := libtest.Must[Recording](t)(s.CreateRecording(t.Context(), RecordingRequest{Account: "acme"}))
	session := s.claim(ticketRequest(s.Library, ticket))
	s.lose()
	s.put("small.wav", wavSound(100))
	large := bytes.NewReader(wavSound(10_000))
	_, _, err := s.Put(t.Context(), "acme", "large.wav", large, PutOptions{Length: -1})
	libtest.WantErr(t, "upload", err, blobstore.ErrNoSpace)
	sound := mp3Sound(100)
	s.write(session, sound)
	s.keep(t.Context(), []*Session{session}, time.Now().Add(spoolAfter))
	session.keeping.Lock()
	libtest.WantErr(t, "recording", session.trouble, blobstore.ErrNoSpace)
	session.keeping.Unlock()
	libtest.Equal(t, "what waits", s.spool.Stats().Bytes <= s.bytesMax, true)
	s.find()
	if err := session.Close(libtest.Bounded(t), EndedClean); err != nil {
		t.Fatal(err)
	}
	s.sounds(ticket.ID, sound, StateSealed)
	libtest.WaitFor(t, "the spool is empty", func() bool { return s.spool.Stats().Items == 0 })
}
