package library

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"carillon/audio"
	"carillon/audio/mpeg"
	"carillon/blobstore"
	"carillon/library/export"
	"carillon/library/rows"
)

const (
	// segmentsMax bounds how often a recording is taken over: its row lists
	// them, and an encoder that reconnects for ever is broken.
	segmentsMax = 32
	// yieldWait is how long a source on another node has to give way. A node
	// that is alive does within milliseconds; after this it is taken for dead,
	// and what it had not made durable (at most a second) is lost with it. It
	// is part of claimWait.
	yieldWait = 2 * time.Second
	// refillPoll is how often a takeover looks whether what it copied is
	// durable: within a flush tick or two it is.
	refillPoll = 10 * time.Millisecond
	// tailBytes of a recording are searched for where its last frame ends.
	tailBytes = 2 * mpeg.FindFrameBytesMin
)

// Segment is what one source sent of a recording that several continued.
type Segment struct {
	Offset  int64      `json:"offset"` // of its first byte
	Node    string     `json:"node,omitempty"`
	Started time.Time  `json:"started"`
	Ended   *time.Time `json:"ended,omitempty"`
}

// TakeoverQuietDefault is how long the source of a live recording must have
// been silent before another with the same ticket is let in: its connection may
// be gone without a word. FreeSWITCH pauses for 1.3 s at most.
const TakeoverQuietDefault = 2 * time.Second

// continuable says whether a source with the ticket of s may go on with it: it
// was cut off not long ago, or left without a byte, or its source is still
// taken for live.
func (l *Library) continuable(s *stored, now time.Time) bool {
	if l.cfg.TakeoverGrace <= 0 || len(s.Segments) >= segmentsMax || s.tokenHash == nil {
		return false
	}
	if s.State == StateLive {
		return true
	}
	goesOn := s.wasCut() || s.cameToNothing()
	return goesOn && s.Ended != nil && now.Before(s.Ended.Add(l.cfg.TakeoverGrace))
}

// cameToNothing says whether the source of s left in order and had sent
// nothing. Encoders that dislike an answer do, and come again: there is nothing
// that a second source could spoil.
func (s *stored) cameToNothing() bool { return s.State == StateSealed && s.Size == 0 }

// wasCut says whether s ended by a cut, still holds what came, and can go on.
func (s *stored) wasCut() bool {
	stays := s.State == StateTruncated ||
		s.State == StateStored && s.truncated && s.StoreAs != "" &&
			s.Item == s.StoreAs && s.ItemAccount == s.Account
	if !stays || s.EndedBy != EndedByCut && s.EndedBy != EndedByNode {
		return false
	}
	// Frames of MP3 go on where others end; files with a head do not.
	return s.Size == 0 || s.Audio != nil && s.Audio.Format == audio.FormatMP3
}

// takeOver lets another source go on with a recording: one that lost its
// connection, or whose node died, comes back and finds its recording again,
// on any node. The sound so far is copied into the new blob, cut after its
// last whole frame, and nothing is let go before the copy is durable.
func (l *Library) takeOver(ctx context.Context, s *stored, r *SourceRequest) (*Session, error) {
	if s.State == StateLive {
		var err error
		if s, err = l.dethrone(ctx, s); err != nil {
			return nil, err
		}
	}
	if !l.continuable(s, time.Now()) || s.State == StateLive {
		return nil, fmt.Errorf("recording %s is %s: %w", s.ID, s.State, ErrTicketUsed)
	}
	session, err := l.enter(s.ID)
	if err != nil {
		return nil, err
	}
	size, err := l.refill(ctx, session, s)
	if err == nil {
		err = l.takeBackExport(ctx, s)
	}
	if err == nil {
		s.addSegment(size, l.deps.NodeID)
		err = l.begin(ctx, s, session.blob, r)
	}
	if err == nil {
		err = session.start(ctx, s.Recording)
	}
	if err != nil {
		l.leave(session) // its blob has no reference, the sweep frees it
		return nil, fmt.Errorf("take over %s: %w", s.ID, err)
	}
	l.log.InfoContext(ctx, "recording is taken over", "recording_id", s.ID, "segment", len(s.Segments),
		"offset", size, "remote", r.RemoteAddr)
	return session, nil
}

// takeBackExport lets the next change of s take back the export that its last
// end queued: there will be another. One that runs, or is done, stays.
func (l *Library) takeBackExport(ctx context.Context, s *stored) error {
	if s.ExportID == "" {
		return nil
	}
	e, err := l.exports.Job(ctx, s.ExportID)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err == nil && (e.State == export.Queued || e.State == export.Failed) {
		s.dropped, s.ExportID = e, ""
	}
	return err
}

// addSegment notes that a new source begins at offset.
func (s *stored) addSegment(offset int64, node string) {
	if len(s.Segments) == 0 && s.Started != nil {
		s.Segments = []Segment{{Node: s.Node, Started: *s.Started, Ended: s.Ended}}
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	s.Segments = append(s.Segments, Segment{Offset: offset, Node: node, Started: now})
	s.Ended, s.EndedBy, s.truncated, s.ItemAccount, s.Item = nil, "", false, "", ""
}

// dethrone ends the source that s is live with and returns the recording as
// that left it.
func (l *Library) dethrone(ctx context.Context, s *stored) (*stored, error) {
	if session := l.session(s.ID); session != nil {
		if session.flowing() {
			return nil, fmt.Errorf("recording %s has a source that is well: %w", s.ID, ErrTicketUsed)
		}
		session.yield()
		select {
		case <-session.settled:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return l.recording(ctx, s.ID)
	}
	if !l.orphaned(s) {
		now, err := l.askToYield(ctx, s)
		if err != nil || now.State != StateLive {
			return now, err
		}
		l.log.WarnContext(ctx, "the node of a live recording does not answer, it is sealed here",
			"recording_id", s.ID, "node_id", s.Node)
		s = now
	}
	if err := l.recover(ctx, s); err != nil {
		return nil, err
	}
	return l.recording(ctx, s.ID)
}

// askToYield tells the node of a live recording that another source has come,
// and waits for a while until it has sealed what its own sent. ErrTicketUsed: it
// says that its source is well.
func (l *Library) askToYield(ctx context.Context, s *stored) (*stored, error) {
	_, err := l.rows.Write(ctx, func() (blobstore.Txn, error) {
		now, err := l.recording(ctx, s.ID)
		if err != nil {
			return blobstore.Txn{}, err
		}
		if now.State != StateLive || now.yields {
			return blobstore.Txn{}, rows.ErrDone
		}
		now.yields = true
		c := l.newChange()
		c.putRecording(now)
		return c.Done()
	})
	if err != nil && !errors.Is(err, rows.ErrDone) {
		return nil, err
	}
	patience := time.NewTimer(yieldWait)
	defer patience.Stop()
	for {
		changed, cancel := l.rows.Watch(recordingKey(s.ID))
		now, err := l.recording(ctx, s.ID)
		if err != nil || now.State != StateLive {
			cancel()
			return now, err
		}
		if !now.yields {
			cancel()
			return nil, fmt.Errorf("recording %s has a source that is well: %w", s.ID, ErrTicketUsed)
		}
		select {
		case <-changed:
			cancel()
		case <-patience.C:
			cancel()
			return now, nil
		case <-ctx.Done():
			cancel()
			return nil, ctx.Err()
		}
	}
}

// refill copies the sound of s into the session and returns when it is
// durable, and how much it is.
func (l *Library) refill(ctx context.Context, session *Session, s *stored) (int64, error) {
	if s.Size == 0 {
		return 0, nil
	}
	r, err := l.shelf.Open(ctx, s.Blob)
	if err != nil {
		return 0, err
	}
	defer func() { _ = r.Close() }()
	size, err := wholeFrames(r, s.Size)
	if err != nil {
		return 0, err
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	if _, err := io.CopyN(refiller{ctx, session}, r, size); err != nil {
		return 0, err
	}
	return size, session.durable(ctx)
}

// wholeFrames is how much of an MP3 of that size is left when a frame that was
// cut off at its end is taken away.
func wholeFrames(r *blobstore.Reader, size int64) (int64, error) {
	start := max(0, size-tailBytes)
	tail, err := readAt(r, start, size-start)
	if err != nil {
		return 0, err
	}
	at, ok := mpeg.FindFrame(tail)
	if !ok {
		return size, nil
	}
	for at < len(tail) {
		if len(tail)-at < mpeg.HeaderBytes {
			break // the cut-off frame
		}
		h, err := mpeg.ParseHeader(tail[at:])
		if err != nil {
			return size, nil //nolint:nilerr // a tag, or noise: not ours to judge
		}
		if at+h.FrameBytes > len(tail) {
			break
		}
		at += h.FrameBytes
	}
	return start + int64(at), nil
}

// refiller writes to a session that has not begun, and waits when it is full.
type refiller struct {
	ctx     context.Context //nolint:containedctx // it is one call's, and io.Copy has no argument for it
	session *Session
}

// Write implements io.Writer.
func (f refiller) Write(p []byte) (int, error) {
	for {
		n, err := f.session.refill(p)
		if !errors.Is(err, blobstore.ErrUnavailable) {
			return n, err
		}
		if err := f.session.durable(f.ctx); err != nil {
			return 0, err
		}
	}
}

// refill takes bytes that another session has recorded: all of p or nothing.
func (s *Session) refill(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.live.Write(p)
	_, _ = s.prober.Write(p[:n]) // never fails
	s.size += int64(n)
	return n, err
}

// durable waits until all that the session took is.
func (s *Session) durable(ctx context.Context) error {
	poll := time.NewTicker(refillPoll)
	defer poll.Stop()
	for s.live.Durable() < s.live.Size() {
		select {
		case <-poll.C:
		case <-s.live.Failed():
			return s.live.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
