package library

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"carillon/audio/layer3"
	"carillon/internal/ring"
)

const (
	// BurstDefault is the sound that a new listener gets at once, and the lead
	// that he then keeps: sources pause for up to 1.23 s (freeswitch-wire.md 2.4),
	// bytes are a second on the way, and an empty decoder costs the caller a
	// second of silence.
	BurstDefault = 3 * time.Second
	// StationIdleDefault is how long a continuous stream goes on without a
	// listener. Its position is the clock's, so ending it costs the next listener
	// some milliseconds and nothing else.
	StationIdleDefault = time.Minute
	// stationTick is how often a station makes sound; the burst covers it.
	stationTick = 200 * time.Millisecond
	// stationCheck is how often a station looks whether its items have changed.
	stationCheck = 5 * time.Second
	// BehindMaxDefault is how far a listener of what goes on may fall behind
	// before he is dropped: longer than any hiccup of a network.
	BehindMaxDefault = 20 * time.Second
	// stationSlip is how far a station may be off the clock before it jumps:
	// more than clocks are set by in small steps, less than anybody compares.
	stationSlip = 2 * time.Second
	// stationBegin bounds how long a station may take to begin: mod_shout cannot
	// be hung up on while it waits.
	stationBegin = 5 * time.Second
	// stationPrime frames are made and thrown away at the start: the filters of
	// the encoder then hold what was heard before, on all nodes the same.
	stationPrime = layer3.PrimeFrames
	// stationsMax bounds the continuous streams of a node: each costs half a
	// percent of a core and 200 KiB.
	stationsMax = 256
	// stationReadBytes is how much PCM is read at a time.
	stationReadBytes = 16 << 10
	// stationRetry is how long a piece that cannot be read is silent before it
	// is tried again.
	stationRetry = time.Second
	// Bit rates of stations by sample rate: the encoder has no model of hearing
	// and gets twice what FreeSWITCH's would.
	stationBitRateNarrow = 32000
	stationBitRateWide   = 64000
	stationBitRateFull   = 96000
)

// Tuned is a listener's place in a continuous stream.
type Tuned struct {
	// Ring holds the MP3 of the last seconds, and of the next ones.
	Ring *ring.Ring
	// Offset is where the listener begins; what is in the ring behind it is his
	// burst. ByteRate is bytes a second.
	Offset   int64
	ByteRate int
	// Leave gives the place back. It may be called twice.
	Leave func()
}

// station is a continuous stream with its listeners on this node: an item, or a
// playlist, without an end and without gaps, whose position follows the clock.
type station struct {
	ring                          *ring.Ring
	byteRate, sampleRate, bitRate int

	lib     *Library
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

	listeners int // guarded by stations.mu
	idle      time.Time
	ended     bool
}

// stations are the continuous streams of a node.
type stations struct {
	mu   sync.Mutex // guards the map, and listeners, idle and ended of each
	open map[string]*station
}

// Tune gives a listener a place in the continuous stream of {account}/{id}, which
// it starts unless it runs. Of f the sample rate, the bit rate and the gain
// count. It returns ErrNotFound, ErrBadRequest for rates that no MP3 has, and
// ErrLimit.
func (l *Library) Tune(ctx context.Context, account, id string, f Form) (Tuned, error) {
	s, err := l.tune(ctx, account, id, f)
	if err != nil {
		return Tuned{}, err
	}
	return Tuned{
		Ring: s.ring, Offset: s.offset(time.Now()), ByteRate: s.byteRate, Leave: sync.OnceFunc(s.leave),
	}, nil
}

func (l *Library) tune(ctx context.Context, account, id string, f Form) (*station, error) {
	key := fmt.Sprintf("%s/%s\x00%d %d %.1f %v", account, id, f.SampleRate, f.BitRate, f.GainDB, f.GainSet)
	s, first, err := l.stations.join(key)
	if err != nil {
		return nil, err
	}
	if first {
		s.lib, s.account, s.id, s.form = l, account, id, f
		// Others wait for it, too, and may stay longer than the first.
		begin, cancel := context.WithTimeout(context.WithoutCancel(ctx), stationBegin)
		s.failed = s.begin(begin)
		cancel()
		if s.failed != nil {
			l.stations.remove(s)
		}
		close(s.ready)
	}
	select {
	case <-s.ready:
	case <-ctx.Done():
		l.stations.leave(s)
		return nil, ctx.Err()
	}
	return s, s.failed
}

// begin finds what there is to play and makes the first burst of it, so that
// the first listener has it at once.
func (s *station) begin(ctx context.Context) error {
	m, _, err := s.lib.Playing(ctx, s.account, s.id)
	if err != nil {
		return err
	}
	line, err := s.lib.timeline(ctx, m, s.form)
	if err != nil {
		return err
	}
	if err := s.open(line); err != nil {
		return err
	}
	if err := s.make(ctx, time.Now()); err != nil {
		return errors.Join(err, s.close())
	}
	select {
	case s.lib.jobs <- s.run:
	case <-ctx.Done():
		return errors.Join(ctx.Err(), s.close())
	}
	s.lib.metrics.station(1)
	return nil
}

// join counts a listener of a key's station. The first begins it, the others
// wait until it is ready.
func (st *stations) join(key string) (s *station, first bool, err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if s = st.open[key]; s != nil {
		s.listeners++
		return s, false, nil
	}
	if len(st.open) >= stationsMax {
		return nil, false, fmt.Errorf("%d continuous streams: %w", stationsMax, ErrLimit)
	}
	if st.open == nil {
		st.open = make(map[string]*station)
	}
	s = &station{key: key, ready: make(chan struct{}), piece: -1, listeners: 1}
	st.open[key] = s
	return s, true, nil
}

func (st *stations) remove(s *station) {
	st.mu.Lock()
	defer st.mu.Unlock()
	s.ended = true
	if st.open[s.key] == s {
		delete(st.open, s.key)
	}
}

// deserted says whether nobody has listened for so long, and then ends s.
func (st *stations) deserted(s *station, now time.Time, idle time.Duration) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if s.listeners > 0 || now.Sub(s.idle) < idle {
		return false
	}
	s.ended = true
	delete(st.open, s.key)
	return true
}

// leave gives back what join returned.
func (st *stations) leave(s *station) {
	st.mu.Lock()
	defer st.mu.Unlock()
	s.listeners--
	s.idle = time.Now()
}

func (s *station) leave() { s.lib.stations.leave(s) }

// open chooses how the timeline is encoded.
func (s *station) open(line *timeline) error {
	bitRate := s.form.BitRate
	if bitRate == 0 {
		switch {
		case line.rate <= formRateDefault:
			bitRate = stationBitRateNarrow
		case line.rate <= stationRateMax:
			bitRate = stationBitRateWide
		default:
			bitRate = stationBitRateFull
		}
	}
	encoder, err := layer3.NewEncoder(line.rate, 1, bitRate)
	if err != nil {
		return fmt.Errorf("continuous stream: %w: %w", ErrBadRequest, err)
	}
	// Frames of other rates would not all have one length.
	if line.rate%8000 != 0 {
		return fmt.Errorf("continuous stream of %d Hz: %w", line.rate, ErrBadRequest)
	}
	s.byteRate, s.sampleRate, s.bitRate = bitRate/8, line.rate, bitRate
	encoder.SetGain(line.gainDB)
	s.line, s.encoder, s.began = line, encoder, time.Now()
	kept := (s.lib.cfg.BehindMax + s.lib.cfg.Burst).Seconds()
	s.ring = ring.New(int(kept*float64(s.byteRate)), 0)
	s.first = s.frameAt(s.began)
	s.next = s.first - stationPrime
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
	defer s.lib.metrics.station(-1)
	err := s.play(ctx)
	s.ring.End()
	s.lib.stations.remove(s)
	if err = errors.Join(err, s.close()); err != nil && ctx.Err() == nil {
		s.lib.log.Warn("continuous stream ended", "account", s.account, "id", s.id, "error", err)
	}
}

func (s *station) play(ctx context.Context) error {
	tick := time.NewTicker(stationTick)
	defer tick.Stop()
	checked := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := time.Now()
		if now.Sub(checked) >= stationCheck {
			checked = now
			if err := s.check(ctx, now); err != nil {
				return err
			}
		}
		if s.lib.stations.deserted(s, now, s.lib.cfg.StationIdle) {
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
		if slip > stationSlip || slip < -stationSlip {
			s.shift += off
		}
	}
	m, _, err := s.lib.playing(ctx, s.account, s.id) // by what this node knows
	if err != nil {
		return err
	}
	form := s.form
	form.SampleRate = s.sampleRate // it stays what it is for those who listen
	line, err := s.lib.timeline(ctx, m, form)
	if err != nil {
		return err
	}
	if line.signature != s.line.signature {
		s.line, s.piece = line, -1
		s.encoder.SetGain(line.gainDB)
		return s.close()
	}
	return nil
}

// make encodes what is to be in the ring at a time: the burst ahead of it.
func (s *station) make(ctx context.Context, now time.Time) error {
	ahead := s.lib.cfg.Burst + stationTick
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
		left := s.line.pieces[index].samples - offset
		part := pcm[:min(int64(len(pcm)), left)]
		if err := s.readPiece(ctx, index, offset, part); err != nil {
			clear(part)
			if ctx.Err() == nil && time.Since(s.silent) > stationRetry {
				s.silent = time.Now()
				s.lib.log.Warn("continuous stream is silent", "account", s.account, "id", s.id, "error", err)
			}
			_ = s.close()
		}
		pcm, sample = pcm[len(part):], sample+int64(len(part))
	}
}

func (s *station) readPiece(ctx context.Context, index int, offset int64, pcm []int16) error {
	if s.pcm == nil || s.piece != index || s.at != offset {
		if s.pcm == nil && time.Since(s.silent) < stationRetry {
			return ErrUnavailable
		}
		if err := errors.Join(s.close(), s.openPiece(ctx, index, offset)); err != nil {
			return err
		}
	}
	for i := range pcm {
		var b [sampleBytes]byte
		if _, err := io.ReadFull(s.pcm, b[:]); err != nil {
			return fmt.Errorf("read %s: %w", s.line.pieces[index].title, err)
		}
		pcm[i] = int16(binary.LittleEndian.Uint16(b[:]))
	}
	s.at = offset + int64(len(pcm))
	return nil
}

func (s *station) openPiece(ctx context.Context, index int, offset int64) error {
	p := &s.line.pieces[index]
	// The reader outlives the request of the first listener.
	rd, err := s.lib.OpenRendition(context.WithoutCancel(ctx), p.rendition)
	if err != nil {
		return err
	}
	if _, err := rd.Seek(offset*sampleBytes, io.SeekStart); err != nil {
		return errors.Join(err, rd.Close())
	}
	s.pcm, s.closer, s.piece = bufio.NewReaderSize(rd, stationReadBytes), rd, index
	s.ring.SetTitle(p.title)
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
