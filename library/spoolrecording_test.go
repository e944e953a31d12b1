package library

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"carillon/library/libtest"
)

// crash ends the library as if the process had been killed: nothing is sealed,
// and what the spool has is all that is left.
func (s *spooling) crash() {
	s.t.Helper()
	s.lose() // what Close would still write does not arrive
	if err := errors.Join(s.Close(), s.spool.Close()); err != nil {
		s.t.Error(err)
	}
	s.open()
}

func (s *spooling) claim(r SourceRequest) *Session {
	s.t.Helper()
	session, err := s.Claim(libtest.Bounded(s.t), r)
	if err != nil {
		s.t.Fatal(err)
	}
	return session
}

func (s *spooling) write(session *Session, sound []byte) {
	s.t.Helper()
	if _, err := session.Write(sound); err != nil {
		s.t.Fatal(err)
	}
}

// spilled waits until the spool holds so many bytes of sound.
func (s *spooling) spilled(bytes int) {
	s.t.Helper()
	libtest.WaitFor(s.t, "the sound is in the spool", func() bool {
		var sum int64
		for _, i := range s.spool.Items() {
			start, end := i.Extent()
			sum += end - start
		}
		return sum >= int64(bytes)
	})
}

func (s *spooling) sounds(id string, want []byte, states ...State) Recording {
	s.t.Helper()
	var rec Recording
	libtest.WaitFor(s.t, "recording "+id+" is whole", func() bool {
		got, err := s.recording(s.t.Context(), id)
		if err != nil || got.Size != int64(len(want)) {
			return false
		}
		rec = got.Recording
		return slices.Contains(states, got.State)
	})
	r, err := s.shelf.Open(s.t.Context(), rec.Blob)
	if err != nil {
		s.t.Fatal(err)
	}
	if got := readAll(s.t, r); !bytes.Equal(got, want) {
		s.t.Errorf("recording %s: other bytes", id)
	}
	return rec
}

// Goal: without a leader a recording begins at once, goes on, survives a crash
// before its source has left, and is kept whole when there is a leader.
func TestRecordingBeginsInSpool(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"crash", "end", "end and crash", "stay"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := newSpooling(t)
			asked := RecordingRequest{Account: "acme", Name: "a.mp3"}
			ticket := libtest.Must[Recording](t)(s.CreateRecording(t.Context(), asked))
			s.lose()
			session := s.claim(ticketRequest(s.Library, ticket))
			first, second := mp3Sound(100), mp3Sound(50)
			s.write(session, first)
			if rec := libtest.Must[Recording](t)(s.Recording(t.Context(), ticket.ID)); rec.State != StateLive {
				t.Errorf("state %s", rec.State)
			}
			s.spilled(len(first))
			state := StateTruncated
			switch how {
			case "crash":
				s.crash()
			case "end", "end and crash":
				session.end(EndedClean)
				state = StateSealed
				libtest.WaitFor(t, "the end is written down", func() bool {
					_, ended := s.spool.Items()[0].End()
					return ended
				})
				if how == "end and crash" {
					s.crash()
				}
			case "stay":
				s.find()
				s.write(session, second)
				first = append(first, second...)
				session.end(EndedClean)
				state = StateSealed
			}
			s.find()
			s.sounds(ticket.ID, first, state)
			libtest.WaitFor(t, "the spool is empty", func() bool { return s.spool.Stats().Items == 0 })
			libtest.Equal(t, "put aside", s.spool.Stats().Quarantined, 0)
		})
	}
}

// Goal: a recording that loses its majority in the middle keeps every byte
// through a crash, also when another node has sealed it meanwhile, and stored
// it.
func TestRecordingGoesOnInSpool(t *testing.T) {
	t.Parallel()
	for _, sealed := range []string{"", "sealed", "stored"} {
		t.Run("meanwhile "+sealed, func(t *testing.T) {
			t.Parallel()
			s := newSpooling(t)
			ticket := libtest.Must[Recording](t)(s.CreateRecording(t.Context(), RecordingRequest{
				Account: "acme", Name: "a.mp3", StoreAs: map[string]string{"stored": "kept.mp3"}[sealed],
			}))
			session := s.claim(ticketRequest(s.Library, ticket))
			sound := mp3Sound(200)
			half := 100 * mp3FrameBytes
			s.write(session, sound[:half])
			libtest.WaitFor(t, "the first half is durable",
				func() bool { return session.live.Durable() == int64(half) })
			s.lose()
			s.write(session, sound[half:])
			s.spilled(len(sound) - half)
			s.crash()
			state := StateTruncated
			if sealed != "" {
				local := openLibrary(t, testConfig(), testDeps(s.f.Local)) // a node with a majority
				local.deps.NodeID = "other"
				rec := libtest.Must[*stored](t)(local.recording(t.Context(), ticket.ID))
				if err := local.recover(t.Context(), rec); err != nil {
					t.Fatal(err)
				}
				if sealed == "stored" {
					state = StateStored
				}
			}
			s.find()
			s.sounds(ticket.ID, sound, state)
			if sealed == "stored" {
				s.plays("kept.mp3", sound)
			}
			libtest.WaitFor(t, "the spool is empty", func() bool { return s.spool.Stats().Items == 0 })
			libtest.Equal(t, "put aside", s.spool.Stats().Quarantined, 0)
		})
	}
}

// Goal: where another source has used the ticket meanwhile, both are kept.
func TestSpooledTicketIsTaken(t *testing.T) {
	t.Parallel()
	s := newSpooling(t)
	asked := RecordingRequest{Account: "acme", Name: "a.mp3"}
	ticket := libtest.Must[Recording](t)(s.CreateRecording(t.Context(), asked))
	request := ticketRequest(s.Library, ticket)
	s.lose()
	sound, others := mp3Sound(30), mp3Sound(20)
	session := s.claim(request)
	s.write(session, sound)
	session.end(EndedClean)
	s.spilled(len(sound))
	other := openLibrary(t, testConfig(), testDeps(s.f.Local)) // with a majority
	theirs, err := other.Claim(libtest.Bounded(t), request)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.Write(others); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Close(libtest.Bounded(t), EndedClean); err != nil {
		t.Fatal(err)
	}
	s.find()
	s.sounds(ticket.ID, others, StateSealed)
	var second string
	libtest.WaitFor(t, "a second recording", func() bool {
		all, _, err := s.ListRecordings(t.Context(), "acme", "", 10)
		for _, r := range all {
			if r.ID != ticket.ID && err == nil {
				second = r.ID
			}
		}
		return second != ""
	})
	rec := s.sounds(second, sound, StateSealed)
	libtest.Equal(t, "where it came from", rec.Metadata["spooled_recording"], ticket.ID)
}
