package library

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"carillon/audio"
	"carillon/blobstore"
	"carillon/library/rows"
)

const (
	// settleRetryMin and settleRetryMax are the pauses between tries to seal a
	// recording while there is no majority; for ever, while the node lives.
	settleRetryMin = 100 * time.Millisecond
	settleRetryMax = 5 * time.Second
	// settleWait bounds one try.
	settleWait = 30 * time.Second
)

// Session is one live source: it takes the bytes as they arrive. Write does
// not wait for the disk; bytes are durable on a majority within a second.
type Session struct {
	lib  *Library
	id   string
	blob blobstore.ID
	live *blobstore.LiveRecorder
	rec  Recording
	cast sync.Once // closes done

	keeping  sync.Mutex // guards the five below, over writes to the spool
	spooled  kept       // what waits
	next     kept       // what is to be so, while that is written
	trouble  error      // why not all that waits is to be so
	over     bool       // the last word about it is spoken
	troubled bool       // the spool did not take it
	titled   time.Time  // when the title was committed last; only watch knows it

	ending  chan struct{} // closed when the source has left
	done    chan struct{} // closed when the recording was ended from elsewhere
	settled chan struct{} // closed when the ending is committed, or was given up
	retitle chan struct{} // of one: there is a title to commit

	mu        sync.Mutex // guards the rest
	deferred  *stored    // the claim, if it is not committed yet
	prober    audio.Prober
	size      int64
	heard     time.Time // when the source last brought something, or began
	ended     bool
	how       Ending
	title     string            // the last that the source said
	icy       map[string]string // what it said late of itself
	retitling bool              // a commit of these is due
	limit     EndedBy           // the limit that ended it, "" for none
	when      time.Time
	result    error // of the ending, once settled is closed
}

func newSession(l *Library, id string) *Session {
	live := blobstore.NewLiveRecorder(l.writer, l.flusher, blobstore.LiveRecorderConfig{})
	return &Session{
		lib: l, id: id, blob: live.ID(), live: live,
		ending: make(chan struct{}), done: make(chan struct{}), settled: make(chan struct{}),
		retitle: make(chan struct{}, 1),
	}
}

// start makes the session take bytes.
func (s *Session) start(ctx context.Context, rec Recording) error {
	s.rec = rec
	s.mu.Lock()
	s.heard = time.Now()
	s.mu.Unlock()
	select {
	case s.lib.jobs <- s.run:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Write takes bytes of the source. It copies p. Errors: ErrTooLarge at the
// recording limit, ErrUnavailable when so much waits to become durable that
// memory would grow beyond its bound, blobstore.ErrNoSpace when the disks are
// full, ErrState when it was discarded. After an error the caller ends the session.
func (s *Session) Write(p []byte) (int, error) {
	select {
	case <-s.done:
		return 0, fmt.Errorf("recording %s was ended: %w", s.id, ErrState)
	default:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return 0, fmt.Errorf("recording %s has ended: %w", s.id, ErrState)
	}
	if room := s.lib.deps.Room; room != nil {
		if err := room(); err != nil {
			s.limit = EndedByNoSpace
			return 0, fmt.Errorf("recording %s: %w", s.id, err)
		}
	}
	bytesMax, limit := s.lib.bytesMax(&s.rec.TicketLimits)
	fits := p[:min(int64(len(p)), bytesMax-s.size)]
	s.heard = time.Now()
	n, err := s.live.Write(fits)
	_, _ = s.prober.Write(fits[:n]) // never fails
	s.size += int64(n)
	s.lib.metrics.recordingBytes.Add(float64(n))
	switch {
	case errors.Is(err, blobstore.ErrUnavailable):
		return n, fmt.Errorf("recording %s: %w: %w", s.id, ErrUnavailable, err)
	case err != nil: // sealed or removed by others
		return n, fmt.Errorf("recording %s: %w: %w", s.id, ErrState, err)
	case n < len(p):
		s.limit = limit
		return n, fmt.Errorf("recording %s at its limit of %d bytes: %w", s.id, s.size, ErrTooLarge)
	case s.rec.MaxSeconds > 0 && s.rec.reached(s.soundLocked()):
		s.limit = EndedByMaxSeconds
		return n, fmt.Errorf("recording %s at its limit of %d s: %w", s.id, s.rec.MaxSeconds, ErrTooLarge)
	}
	return n, nil
}

// soundLocked is how much sound there is: as measured, or the time that has
// passed if the source sends what cannot be measured.
func (s *Session) soundLocked() time.Duration {
	if info, err := s.prober.Result(); err == nil {
		return info.Duration()
	}
	return time.Since(*s.rec.Started)
}

// Recording is the recording as it began.
func (s *Session) Recording() Recording { return s.rec }

// Done is closed when the recording was ended from elsewhere (discarded).
func (s *Session) Done() <-chan struct{} { return s.done }

// Close makes everything durable and seals the recording. Ctx bounds how long
// it waits; what could not be sealed in that time is sealed in the background
// or by the next start of this node. Only the first call counts, later ones
// wait with it.
func (s *Session) Close(ctx context.Context, how Ending) error {
	s.end(how)
	select {
	case <-s.settled:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.result
	case <-ctx.Done():
		return fmt.Errorf("recording %s is sealed in the background: %w", s.id, ctx.Err())
	}
}

// end lets the session's goroutine settle the recording.
func (s *Session) end(how Ending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.ended, s.how, s.when = true, how, time.Now()
		close(s.ending)
	}
}

// flowing says whether the source has been heard a moment ago, so that nobody
// else can have come in its place.
func (s *Session) flowing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.ended && time.Since(s.heard) < s.lib.cfg.TakeoverQuiet
}

// answerYield gives way to a source on another node, or tells it that this one
// is well.
func (s *Session) answerYield(ctx context.Context) {
	if !s.flowing() {
		s.yield()
		return
	}
	_, err := s.lib.rows.Write(ctx, func() (blobstore.Txn, error) {
		now, err := s.lib.recording(ctx, s.id)
		if err != nil {
			return blobstore.Txn{}, err
		}
		if !now.yields || now.State != StateLive || now.Blob != s.blob {
			return blobstore.Txn{}, rows.ErrDone
		}
		now.yields = false
		c := s.lib.newChange()
		c.putRecording(now)
		return c.Done()
	})
	if err != nil && !errors.Is(err, rows.ErrDone) {
		s.lib.log.WarnContext(ctx, "another source was not told that this one is well",
			"recording_id", s.id, "error", err)
	}
}

// yield ends the session because another source goes on with the recording.
func (s *Session) yield() {
	s.end(EndedCut)
	s.cast.Do(func() { close(s.done) })
}

func (s *Session) hasEnded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// measure fills in what the session knows of its recording up to now.
func (s *Session) measure(rec *Recording) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec.Size = s.size
	s.describeLocked(rec)
	if info, err := s.prober.Result(); err == nil {
		rec.Audio, rec.DurationMS = &info, info.Duration().Milliseconds()
	}
}

// measure fills in what is known of a recording that is live on this node.
func (l *Library) measure(rec *Recording) bool {
	if rec.State != StateLive {
		return false
	}
	s := l.session(rec.ID)
	if s == nil {
		return false
	}
	s.measure(rec)
	return true
}

// run is the life of a session: it waits for the end, the source's or one from
// elsewhere, and settles it however long that takes.
func (s *Session) run(ctx context.Context) {
	err := s.commitClaim(ctx)
	if err == nil {
		s.watch(ctx)
		err = s.settle(ctx)
	} else {
		s.awaitEnd(ctx) // the rest is for the replay
	}
	s.mu.Lock()
	s.result = err
	s.mu.Unlock()
	s.keepEnd(ctx, err)
	s.lib.leave(s)
}

// watch returns when the source has left.
func (s *Session) watch(ctx context.Context) {
	var due <-chan time.Time // when a title is committed
	for {
		changed, cancel := s.lib.rows.Watch(recordingKey(s.id))
		if !s.stillOurs(ctx) {
			cancel()
			s.cast.Do(func() { close(s.done) })
			select {
			case <-s.ending:
			case <-ctx.Done():
			}
			return
		}
		select {
		case <-changed:
			cancel()
		case <-s.retitle:
			cancel()
			due = time.After(titleEvery)
			if s.titled.IsZero() || time.Since(s.titled) > titleEvery {
				due = time.After(0)
			}
		case <-due:
			cancel()
			due, s.titled = nil, time.Now()
			s.keepTitle(ctx)
		case <-s.ending:
			cancel()
			return
		case <-ctx.Done():
			cancel()
			return
		}
	}
}

// stillOurs says whether the recording is live with our blob. When that cannot
// be read it is taken to be so: a recording is never dropped because the node
// has a bad moment.
func (s *Session) stillOurs(ctx context.Context) bool {
	r, err := s.lib.recording(ctx, s.id)
	if err != nil {
		return !errors.Is(err, ErrNotFound)
	}
	if r.Revision < s.rec.Revision {
		return true // older than our own beginning
	}
	if r.yields && r.State == StateLive && r.Blob == s.blob {
		s.answerYield(ctx)
	}
	return r.State == StateLive && r.Blob == s.blob
}

// settle seals and commits until it has worked, or until the library closes.
func (s *Session) settle(ctx context.Context) error {
	pause := settleRetryMin
	for {
		err := s.settleOnce(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		s.lib.log.WarnContext(ctx, "recording is not sealed yet",
			"recording_id", s.id, "blob_id", s.blob, "error", err)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
		pause = min(2*pause, settleRetryMax)
	}
}

func (s *Session) settleOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	if !s.stillOurs(ctx) {
		return s.lib.dismiss(ctx, s)
	}
	totals, err := s.live.Seal(ctx)
	if err != nil {
		if s.live.Err() != nil && ctx.Err() == nil {
			// Our bytes and the shelf's have parted: keep what the shelf has.
			return s.lib.recover(ctx, &stored{Recording: s.rec})
		}
		return err
	}
	s.mu.Lock()
	o := outcome{totals: totals, by: s.endedByLocked(), ended: s.when, describe: s.describe}
	if info, err := s.prober.Result(); err == nil {
		o.info = &info
	} else {
		o.unheard = err
	}
	s.mu.Unlock()
	return s.lib.settle(ctx, s.id, s.blob, o)
}

func (s *Session) endedByLocked() EndedBy {
	switch {
	case s.limit != "":
		return s.limit
	case s.how == EndedClean:
		return EndedBySource
	}
	return EndedByCut
}
