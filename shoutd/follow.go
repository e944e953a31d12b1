package shoutd

import (
	"context"
	"errors"
	"io"
	"time"

	"carillon/audio"
	"carillon/internal/audience"
	"carillon/internal/ring"
	"carillon/library"
)

const (
	// leadWait ends the hold of a listener whose source is too slow: mod_shout
	// gives up 20 s after it asked.
	leadWait = 5 * time.Second
	// leadBitRate is assumed when no frame header is found: FreeSWITCH's
	// 16 kbit/s, the slowest.
	leadBitRate = 16000
	// headerSearchBytes is where a frame must begin, if this is MP3.
	headerSearchBytes = audio.FindFrameBytesMin
	// feedBytesMin and feedBytesMax bound what is kept of a live recording for
	// its listeners: a few pieces of the blob, and 20 s of 320 kbit/s.
	feedBytesMin = 32 << 10
	feedBytesMax = 1 << 20
	// titleEvery is how often the title of a live recording is looked up. It
	// comes by the catalog, since the source may be on another node.
	titleEvery = 2 * time.Second
)

// errNotLive is returned when a recording has ended before it could be followed.
var errNotLive = errors.New("recording is not live")

// listenLive hands a listener of a live recording over to the audience. What is
// behind the bytes that all share is sent from here first.
func (c *conn) listenLive(ctx context.Context, l *listening) error {
	rec := l.stream.recording
	track, leave, err := c.server.audience.Follow(ctx, "recording/"+rec.ID,
		func(ctx context.Context) (audience.Feed, error) { return c.server.feed(ctx, rec) })
	if err != nil {
		return err
	}
	l.left = append(l.left, leave)
	from, to, _ := track.Ring.Span()
	at := int64(0)
	if l.from == string(library.FromNow) {
		at = c.edge(track, from, to)
	}
	var blob Blob
	if at < from {
		if blob, err = c.open(ctx, l.stream, ""); err != nil {
			return err
		}
		defer func() { _ = blob.Close() }()
	}
	if err := c.sendHead(l); err != nil {
		return err
	}
	seat := audience.Listener{
		Sound: track.Ring, Offset: at, ByteRate: track.ByteRate, Metadata: l.metadata,
		// A young recording is held until there is a lead to play from.
		HoldBytes: int64(float64(track.ByteRate) * c.server.cfg.Burst.Seconds()),
		HoldUntil: time.Now().Add(leadWait),
	}
	if at > 0 || blob != nil {
		seat.HoldBytes = 0
	}
	if blob != nil {
		if seat.Offset, seat.MetaLeft, err = c.catchUp(blob, l, track.Ring, at, to); err != nil {
			return err
		}
	}
	return c.handOver(l, seat)
}

// edge is where who listens from now begins: the lead before the end, at the
// begin of a frame, since a decoder that starts within one makes noise first.
func (c *conn) edge(track *audience.Track, from, to int64) int64 {
	lead := int64(float64(track.ByteRate)*c.server.cfg.Burst.Seconds()) + audio.FrameBytesMax
	if at := to - lead; at > from {
		from = at
	}
	if from == 0 {
		return 0
	}
	near := c.server.heads.Get().(*[headerSearchBytes]byte) //nolint:forcetypeassert // the pool's only type
	defer c.server.heads.Put(near)
	if at, ok := audio.FindFrame(near[:track.Ring.ReadAt(near[:], from)]); ok {
		from += int64(at)
	}
	return from
}

// catchUp sends what came before the bytes that are shared, until they reach
// it. It returns where the listener is, and the sound until his next metadata.
func (c *conn) catchUp(blob Blob, l *listening, shared *ring.Ring, at, to int64) (int64, int, error) {
	out, err := newSocketWriter(c.tcp, c.server.cfg.WriteStall, c.server.metrics.listenerBytes)
	if err != nil {
		return at, 0, err
	}
	var w io.Writer = out
	icy := newICYWriter(out, l.stream.title)
	if l.metadata {
		w = icy
	}
	for {
		limited := &limitedWriter{next: w, left: to - at}
		err := out.pour(limited, blob)
		at = to - limited.left
		if err != nil && !errors.Is(err, errLimit) {
			return at, 0, err
		}
		from, end, _ := shared.Span()
		if at >= from {
			return at, icy.left, out.finish(icy.flush)
		}
		to = end
		if _, err := blob.Seek(at, io.SeekStart); err != nil {
			return at, 0, err
		}
	}
}

// errLimit is returned by a limitedWriter that has all that it wants.
var errLimit = errors.New("enough")

// limitedWriter ends a WriteTo at an offset.
type limitedWriter struct {
	next io.Writer
	left int64
}

func (w *limitedWriter) Write(p []byte) (int, error) {
	if w.left == 0 {
		return 0, errLimit
	}
	n, err := w.next.Write(p[:min(int64(len(p)), w.left)])
	w.left -= int64(n)
	if err == nil && w.left == 0 { // now, not with the next bytes, which may be long in coming
		err = errLimit
	}
	return n, err
}

// feed brings a live recording to all its listeners on this node: one reader,
// however many they are.
func (s *Server) feed(ctx context.Context, rec *library.Recording) (audience.Feed, error) {
	blob, now, err := s.library.OpenRecording(ctx, rec.ID, library.FromStart)
	if err != nil {
		return audience.Feed{}, err
	}
	if now.State != library.StateLive {
		return audience.Feed{}, errors.Join(errNotLive, blob.Close())
	}
	byteRate, err := byteRateOf(blob, &now)
	if err != nil {
		return audience.Feed{}, errors.Join(err, blob.Close())
	}
	keep := int64(float64(byteRate) * (s.cfg.BehindMax + s.cfg.Burst).Seconds())
	keep = max(feedBytesMin, min(keep, feedBytesMax))
	at := max(0, now.Size-keep)
	if _, err := blob.Seek(at, io.SeekStart); err != nil {
		return audience.Feed{}, errors.Join(err, blob.Close())
	}
	shared := ring.New(int(keep), at)
	shared.SetTitle(titleOfRecording(&now))
	w := &feedWriter{
		server: s, ctx: ctx, ring: shared, id: rec.ID, looked: time.Now(), window: time.Now(), most: int(keep) / 2,
	}
	// What is there already is in the ring before the first listener looks.
	if err := w.fill(blob, now.Size-at, now.Size); err != nil {
		return audience.Feed{}, errors.Join(err, blob.Close())
	}
	return audience.Feed{Ring: shared, ByteRate: byteRate, Run: func(ctx context.Context) {
		_, err := blob.WriteTo(w)
		if err := errors.Join(err, blob.Close()); err != nil && ctx.Err() == nil {
			s.log.Warn("live recording is not heard any more", "recording_id", rec.ID, "error", err)
		}
	}}, nil
}

// feedWriter appends to a ring, and looks for a new title now and then. A source
// may send faster than real time, but the ring must not run away from listeners
// who take all they are given: they have their turn once in a period.
type feedWriter struct {
	server *Server
	ctx    context.Context //nolint:containedctx // an io.Writer has no place for it
	ring   *ring.Ring
	id     string
	looked time.Time
	// most bytes are appended in a period, which began at window.
	most   int
	window time.Time
	took   int
}

// fill appends the next n bytes and goes on at their end.
func (w *feedWriter) fill(blob Blob, n, end int64) error {
	if n <= 0 {
		return nil
	}
	_, err := blob.WriteTo(&limitedWriter{next: ringWriter{w.ring}, left: n})
	if err != nil && !errors.Is(err, errLimit) {
		return err
	}
	_, err = blob.Seek(end, io.SeekStart)
	return err
}

type ringWriter struct{ ring *ring.Ring }

func (w ringWriter) Write(p []byte) (int, error) {
	w.ring.Append(p)
	return len(p), nil
}

// pace waits for the next period when this one has had its bytes.
func (w *feedWriter) pace(n int) error {
	const period = audience.Period + audience.Period/4 // a turn may be late
	if time.Since(w.window) >= period {
		w.window, w.took = time.Now(), 0
	}
	if w.took > 0 && w.took+n > w.most {
		wait := time.NewTimer(time.Until(w.window.Add(period)))
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-w.ctx.Done():
			return w.ctx.Err()
		}
		w.window, w.took = time.Now(), 0
	}
	w.took += n
	return nil
}

func (w *feedWriter) Write(p []byte) (int, error) {
	if err := w.pace(len(p)); err != nil {
		return 0, err
	}
	w.ring.Append(p)
	if now := time.Now(); now.Sub(w.looked) >= titleEvery {
		w.looked = now
		if rec, err := w.server.library.Recording(w.ctx, w.id); err == nil {
			w.ring.SetTitle(titleOfRecording(&rec))
		}
	}
	return len(p), nil
}

// byteRateOf is what was measured of a recording, or what its first frame says.
func byteRateOf(blob Blob, rec *library.Recording) (int, error) {
	if rec.Audio != nil && rec.Audio.BitRate >= 8 {
		return rec.Audio.BitRate / 8, nil
	}
	if rec.Size == 0 {
		return leadBitRate / 8, nil
	}
	head := &headWriter{left: int(min(rec.Size, headerSearchBytes))}
	if _, err := blob.WriteTo(head); err != nil && !errors.Is(err, errLimit) {
		return 0, err
	}
	return bitRateOf(head.head) / 8, nil
}

// headWriter takes the first bytes.
type headWriter struct {
	head []byte
	left int
}

func (w *headWriter) Write(p []byte) (int, error) {
	n := min(len(p), w.left)
	w.head = append(w.head, p[:n]...)
	if w.left -= n; w.left == 0 {
		return n, errLimit
	}
	return n, nil
}

// bitRateOf is the bit rate of the first frame in p.
func bitRateOf(p []byte) int {
	p = p[:min(len(p), headerSearchBytes)]
	if at, ok := audio.FindFrame(p); ok {
		if h, err := audio.ParseFrameHeader(p[at:]); err == nil {
			return h.BitRate
		}
	}
	return leadBitRate
}
