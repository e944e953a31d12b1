package relay

import (
	"context"
	"errors"
	"io"
	"time"

	"carillon/audio"
	"carillon/audio/mpeg"
	"carillon/internal/audience"
	"carillon/internal/ring"
	"carillon/library"
)

const (
	// leadBitRate is assumed when no frame header is found: FreeSWITCH's
	// 16 kbit/s, the slowest.
	leadBitRate = 16000
	// feedBytesMin and feedBytesMax bound what is kept of a live recording for
	// its listeners: a few pieces of the blob, and 20 s of 320 kbit/s.
	feedBytesMin = 32 << 10
	feedBytesMax = 1 << 20
	// titleEvery is how often the title of a live recording is looked up. It
	// comes by the catalog, since the source may be on another node.
	titleEvery = 2 * time.Second
)

// feed brings a live recording to all its listeners on this node: one reader,
// however many they are, for each number of steps that they hear it louder.
func (r *Relay) feed(ctx context.Context, id string, steps int) (audience.Feed, error) {
	blob, now, err := r.deps.Open(ctx, id)
	if err != nil {
		return audience.Feed{}, err
	}
	if now.State != library.StateLive {
		return audience.Feed{}, errors.Join(ErrNotLive, blob.Close())
	}
	byteRate, err := byteRateOf(blob, &now)
	if err != nil {
		return audience.Feed{}, errors.Join(err, blob.Close())
	}
	keep := int64(float64(byteRate) * (r.cfg.BehindMax + r.cfg.Burst).Seconds())
	keep = max(feedBytesMin, min(keep, feedBytesMax))
	at := max(0, now.Size-keep)
	if steps != 0 && at > 0 {
		// What is in the ring and what is read before it by those who come late
		// are made louder apart: they must meet between two frames.
		if at, err = frameAt(blob, at); err != nil {
			return audience.Feed{}, errors.Join(err, blob.Close())
		}
	}
	if _, err := blob.Seek(at, io.SeekStart); err != nil {
		return audience.Feed{}, errors.Join(err, blob.Close())
	}
	shared := ring.New(int(keep), at)
	shared.SetTitle(Title(&now))
	w := &feedWriter{
		relay: r, ctx: ctx, ring: shared, id: id, looked: time.Now(), window: time.Now(), most: int(keep) / 2,
		gain: audio.NewGainWriter(ringWriter{shared}, float64(steps)*mpeg.GainStepDB),
	}
	w.out = w.gain
	if steps == 0 {
		w.out = ringWriter{shared}
	}
	// What is there already is in the ring before the first listener looks.
	if err := w.fill(blob, now.Size-at, now.Size); err != nil {
		return audience.Feed{}, errors.Join(err, blob.Close())
	}
	return audience.Feed{Ring: shared, ByteRate: byteRate, Run: func(ctx context.Context) {
		_, err := blob.WriteTo(w)
		if err := errors.Join(err, w.gain.Flush(), blob.Close()); err != nil && ctx.Err() == nil {
			r.deps.Log.Warn("live recording is not heard any more", "recording_id", id, "error", err)
		}
	}}, nil
}

// feedWriter appends to a ring, and looks for a new title now and then. A source
// may send faster than real time, but the ring must not run away from listeners
// who take all they are given: they have their turn once in a period.
type feedWriter struct {
	relay  *Relay
	ctx    context.Context //nolint:containedctx // an io.Writer has no place for it
	ring   *ring.Ring
	gain   *audio.GainWriter
	out    io.Writer // gain, or what is below it
	id     string
	looked time.Time
	// most bytes are appended in a period, which began at window.
	most   int
	window time.Time
	took   int
}

// fill appends the next n bytes and goes on at their end.
func (w *feedWriter) fill(blob audience.Source, n, end int64) error {
	if n <= 0 {
		return nil
	}
	if err := copyN(w.out, blob, n); err != nil {
		return err
	}
	_, err := blob.Seek(end, io.SeekStart)
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
	if _, err := w.out.Write(p); err != nil {
		return 0, err
	}
	if now := time.Now(); now.Sub(w.looked) >= titleEvery {
		w.looked = now
		if rec, err := w.relay.deps.Recording(w.ctx, w.id); err == nil {
			w.ring.SetTitle(Title(&rec))
		}
	}
	return len(p), nil
}

// frameAt is the begin of the first frame from an offset on, or the offset.
func frameAt(blob audience.Source, at int64) (int64, error) {
	if _, err := blob.Seek(at, io.SeekStart); err != nil {
		return 0, err
	}
	var head headWriter
	if err := copyN(&head, blob, headerSearchBytes); err != nil {
		return 0, err
	}
	if n, ok := mpeg.FindFrame(head.head); ok {
		at += int64(n)
	}
	return at, nil
}

// byteRateOf is what was measured of a recording, or what its first frame says,
// or, of what is no MP3, what has come so far.
func byteRateOf(blob audience.Source, rec *library.Recording) (int, error) {
	if rec.Audio != nil && rec.Audio.BitRate >= 8 {
		return rec.Audio.BitRate / 8, nil
	}
	if rec.Size == 0 {
		return leadBitRate / 8, nil
	}
	var head headWriter
	if err := copyN(&head, blob, min(rec.Size, headerSearchBytes)); err != nil {
		return 0, err
	}
	if rate, ok := bitRateOf(head.head); ok {
		return rate / 8, nil
	}
	if rec.ContentType == "" || rec.ContentType == audio.FormatMP3.ContentType() {
		return leadBitRate / 8, nil // it will have frames
	}
	since := time.Second
	if rec.Started != nil {
		since = max(since, time.Since(*rec.Started))
	}
	return max(leadBitRate/8, int(float64(rec.Size)/since.Seconds())), nil
}

// bitRateOf is the bit rate of the first frame in p.
func bitRateOf(p []byte) (int, bool) {
	at, ok := mpeg.FindFrame(p[:min(len(p), headerSearchBytes)])
	if !ok {
		return 0, false
	}
	h, err := mpeg.ParseHeader(p[at:])
	return h.BitRate, err == nil
}

// headWriter keeps what it is given.
type headWriter struct{ head []byte }

func (w *headWriter) Write(p []byte) (int, error) {
	w.head = append(w.head, p...)
	return len(p), nil
}

// errEnough is returned by a limitedWriter that has all that it wants.
var errEnough = errors.New("enough")

// limitedWriter ends a WriteTo after some bytes, and not with the next ones,
// which may be long in coming.
type limitedWriter struct {
	next io.Writer
	left int64
}

func (w *limitedWriter) Write(p []byte) (int, error) {
	n, err := w.next.Write(p[:min(int64(len(p)), w.left)])
	if w.left -= int64(n); err == nil && w.left == 0 {
		err = errEnough
	}
	return n, err
}

// copyN copies the next n bytes that are there, at least one.
func copyN(w io.Writer, from io.WriterTo, n int64) error {
	if _, err := from.WriteTo(&limitedWriter{next: w, left: n}); err != nil && !errors.Is(err, errEnough) {
		return err
	}
	return nil
}
