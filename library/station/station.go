package station

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"carillon/audio/layer3"
	"carillon/internal/ring"
	"carillon/library/fault"
)

const (
	// tick is how often a station makes sound; the burst covers it.
	tick = 200 * time.Millisecond
	// checkEvery is how often a station looks whether its items have changed.
	checkEvery = 5 * time.Second
	// slipMax is how far a station may be off the clock before it jumps: more than
	// clocks are set by in small steps, less than anybody compares.
	slipMax = 2 * time.Second
	// prime frames are made and thrown away at the start: the filters of the
	// encoder then hold what was heard before, on all nodes the same.
	prime = layer3.PrimeFrames
	// readBytes is how much PCM is read at a time.
	readBytes = 16 << 10
	// retryAfter is how long a piece that cannot be read is silent before it is
	// tried again.
	retryAfter = time.Second
	// Bit rates by sample rate, those of a telephone call, of a wideband one and of
	// what is finer: the encoder has no model of hearing and gets twice what
	// FreeSWITCH's would.
	rateNarrow    = 8000
	rateWide      = 16000
	bitRateNarrow = 32000
	bitRateWide   = 64000
	bitRateFull   = 96000
)

// station is a continuous stream with its listeners on this node: an item, or a
// playlist, without an end and without gaps, whose position follows the clock.
type station struct {
	ring                          *ring.Ring
	byteRate, sampleRate, bitRate int

	set     *Set
	key     string
	account string
	id      string
	form    Form
	line    *timeline
	encoder *layer3.Encoder
	began   time.Time
	first   int64 // frame since the epoch that the ring begins with
	next    int64 // to be made
	shift   int64 // of the sound against the frames, in frames

	// The piece that is being read.
	piece  int
	pcm    *bufio.Reader
	closer io.Closer
	at     int64 // the sample in the piece that pcm gives next
	silent time.Time

	ready  chan struct{} // closed when it runs, or failed is why it does not
	failed error

	listeners int // guarded by Set.mu
	idle      time.Time
}

// begin finds what there is to play and makes the first burst of it, so that
// the first listener has it at once.
func (s *station) begin(ctx context.Context) error {
	program, err := s.set.deps.Sounds.Program(ctx, s.account, s.id, s.form)
	if err != nil {
		return err
	}
	if err := s.open(newTimeline(program)); err != nil {
		return err
	}
	if err := s.make(ctx, time.Now()); err != nil {
		return errors.Join(err, s.close())
	}
	select {
	case s.set.deps.Jobs <- s.run:
	case <-ctx.Done():
		return errors.Join(ctx.Err(), s.close())
	}
	s.set.deps.Meter.Playing(1)
	return nil
}

// open chooses how the timeline is encoded.
func (s *station) open(line *timeline) error {
	bitRate := s.form.BitRate
	if bitRate == 0 {
		switch {
		case line.SampleRate <= rateNarrow:
			bitRate = bitRateNarrow
		case line.SampleRate <= rateWide:
			bitRate = bitRateWide
		default:
			bitRate = bitRateFull
		}
	}
	encoder, err := layer3.NewEncoder(line.SampleRate, 1, bitRate)
	if err != nil {
		return fmt.Errorf("continuous stream: %w: %w", fault.ErrBadRequest, err)
	}
	// Frames of other rates would not all have one length.
	if line.SampleRate%8000 != 0 {
		return fmt.Errorf("continuous stream of %d Hz: %w", line.SampleRate, fault.ErrBadRequest)
	}
	s.byteRate, s.sampleRate, s.bitRate = bitRate/8, line.SampleRate, bitRate
	encoder.SetGain(line.GainDB)
	s.line, s.encoder, s.began = line, encoder, time.Now()
	kept := (s.set.cfg.BehindMax + s.set.cfg.Burst).Seconds()
	s.ring = ring.New(int(kept*float64(s.byteRate)), 0)
	s.first = s.frameAt(s.began)
	s.next = s.first - prime
	return nil
}

// frameAt is the frame since the epoch that is heard at a time. Wall clock
// seconds times a rate fit 63 bits for longer than MP3 will last.
func (s *station) frameAt(t time.Time) int64 {
	samples := t.Unix()*int64(s.sampleRate) + int64(t.Nanosecond())*int64(s.sampleRate)/int64(time.Second)
	return samples / int64(s.encoder.FrameSamples())
}

// due is frameAt by a clock that is never set: since the station began.
func (s *station) due(t time.Time) int64 {
	since := t.Sub(s.began) // monotonic
	return s.first + int64(since.Seconds()*float64(s.sampleRate))/int64(s.encoder.FrameSamples())
}

// offset is where a listener begins: at what is heard now, so that what is
// ahead of it in the ring is his burst.
func (s *station) offset(now time.Time) int64 {
	from, to, _ := s.ring.Span()
	return max(from, min(to, (s.due(now)-s.first)*s.frameBytes()))
}

func (s *station) frameBytes() int64 {
	return int64(s.encoder.FrameSamples()) / 8 * int64(s.bitRate) / int64(s.sampleRate)
}

// run makes sound until nobody wants it, its items are gone, or ctx ends.
func (s *station) run(ctx context.Context) {
	defer s.set.deps.Meter.Playing(-1)
	err := s.play(ctx)
	s.ring.End()
	s.set.remove(s)
	if err = errors.Join(err, s.close()); err != nil && ctx.Err() == nil {
		s.set.deps.Log.Warn("continuous stream ended", "account", s.account, "id", s.id, "error", err)
	}
}

func (s *station) play(ctx context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	checked := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now := time.Now()
		if now.Sub(checked) >= checkEvery {
			checked = now
			if err := s.check(ctx, now); err != nil {
				return err
			}
		}
		if s.set.deserted(s, now) {
			return nil
		}
		if err := s.make(ctx, now); err != nil {
			return err
		}
	}
}

// check takes over what has changed: the items, and the clock.
func (s *station) check(ctx context.Context, now time.Time) error {
	if off := s.frameAt(now) - s.due(now) - s.shift; off != 0 {
		slip := time.Duration(off) * time.Second * time.Duration(s.encoder.FrameSamples()) /
			time.Duration(s.sampleRate)
		if slip > slipMax || slip < -slipMax {
			s.shift += off
		}
	}
	form := s.form
	form.SampleRate = s.sampleRate // it stays what it is for those who listen
	program, err := s.set.deps.Sounds.ProgramNow(ctx, s.account, s.id, form)
	if err != nil {
		return err
	}
	if line := newTimeline(program); line.signature != s.line.signature {
		s.line, s.piece = line, -1
		s.encoder.SetGain(line.GainDB)
		return s.close()
	}
	return nil
}

// make encodes what is to be in the ring at a time: the burst ahead of it.
func (s *station) make(ctx context.Context, now time.Time) error {
	ahead := s.set.cfg.Burst + tick
	end := s.due(now.Add(ahead)) + 1
	samples := s.encoder.FrameSamples()
	pcm := make([]int16, samples)
	var frame []byte
	for ; s.next < end; s.next++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.read(ctx, (s.next+s.shift)*int64(samples), pcm)
		frame = s.encoder.AppendFrame(frame[:0], pcm)
		if s.next >= s.first {
			s.ring.Append(frame)
		}
	}
	return nil
}

// read fills pcm with what is heard from a sample on. What cannot be read is
// silence: the stream goes on.
func (s *station) read(ctx context.Context, sample int64, pcm []int16) {
	for len(pcm) > 0 {
		index, offset := s.line.at(sample)
		left := s.line.Pieces[index].Samples - offset
		part := pcm[:min(int64(len(pcm)), left)]
		if err := s.readPiece(ctx, index, offset, part); err != nil {
			clear(part)
			if ctx.Err() == nil && time.Since(s.silent) > retryAfter {
				s.silent = time.Now()
				s.set.deps.Log.Warn("continuous stream is silent", "account", s.account, "id", s.id, "error", err)
			}
			_ = s.close()
		}
		pcm, sample = pcm[len(part):], sample+int64(len(part))
	}
}

func (s *station) readPiece(ctx context.Context, index int, offset int64, pcm []int16) error {
	if s.pcm == nil || s.piece != index || s.at != offset {
		if s.pcm == nil && time.Since(s.silent) < retryAfter {
			return fault.ErrUnavailable
		}
		if err := errors.Join(s.close(), s.openPiece(ctx, index, offset)); err != nil {
			return err
		}
	}
	for i := range pcm {
		var b [sampleBytes]byte
		if _, err := io.ReadFull(s.pcm, b[:]); err != nil {
			return fmt.Errorf("read %s: %w", s.line.Pieces[index].Title, err)
		}
		pcm[i] = int16(binary.LittleEndian.Uint16(b[:]))
	}
	s.at = offset + int64(len(pcm))
	return nil
}

func (s *station) openPiece(ctx context.Context, index int, offset int64) error {
	p := &s.line.Pieces[index]
	// The reader outlives the request of the first listener.
	rd, err := p.Open(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	if _, err := rd.Seek(offset*sampleBytes, io.SeekStart); err != nil {
		return errors.Join(err, rd.Close())
	}
	s.pcm, s.closer, s.piece = bufio.NewReaderSize(rd, readBytes), rd, index
	s.ring.SetTitle(p.Title)
	return nil
}

func (s *station) close() error {
	if s.closer == nil {
		return nil
	}
	err := s.closer.Close()
	s.pcm, s.closer = nil, nil
	return err
}
