package station

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"carillon/library/fault"
	"carillon/library/libtest"
)

// radio implements Sounds with one program, or why there is none.
type radio struct {
	program Program
	err     error
}

// Program implements Sounds.
func (r *radio) Program(context.Context, string, string, Form) (Program, error) {
	return r.program, r.err
}

// ProgramNow implements Sounds.
func (r *radio) ProgramNow(context.Context, string, string, Form) (Program, error) {
	return r.program, r.err
}

// counter implements Meter.
type counter struct{ playing atomic.Int64 }

// Playing implements Meter.
func (c *counter) Playing(n float64) { c.playing.Add(int64(n)) }

// silence is a second of it.
type silence struct{ *bytes.Reader }

// Close implements io.Closer.
func (silence) Close() error { return nil }

// Goal: a program that cannot be had fails those who ask, and the next is asked
// again; a piece that cannot be read is silence, and is tried again; a station
// that nobody hears ends. Method: virtual time.
func TestSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		sounds, meter, jobs := &radio{err: fault.ErrUnavailable}, &counter{}, make(chan func(context.Context))
		set := New(Config{Burst: time.Second, BehindMax: 10 * time.Second, Idle: time.Minute},
			Deps{Sounds: sounds, Jobs: jobs, Meter: meter, Log: slog.New(slog.DiscardHandler)})
		go func() {
			for {
				select {
				case job := <-jobs:
					go job(ctx)
				case <-ctx.Done():
					return
				}
			}
		}()
		_, err := set.Tune(ctx, "acme", "moh", Form{})
		libtest.WantErr(t, "tune without a program", err, fault.ErrUnavailable)

		var opened, mended atomic.Bool
		sounds.err = nil
		sounds.program = Program{SampleRate: 8000, Pieces: []Piece{{
			Title: "tone", Samples: 8000,
			Open: func(context.Context) (io.ReadSeekCloser, error) {
				if opened.Store(true); !mended.Load() {
					return nil, fault.ErrUnavailable
				}
				return silence{bytes.NewReader(make([]byte, 8000*sampleBytes))}, nil
			},
		}}}
		_, err = set.Tune(ctx, "acme", "moh", Form{BitRate: 12345})
		libtest.WantErr(t, "tune to a bit rate that no MP3 has", err, fault.ErrBadRequest)
		tuned := libtest.Must[Tuned](t)(set.Tune(ctx, "acme", "moh", Form{}))
		if _, to, _ := tuned.Ring.Span(); to-tuned.Offset < int64(tuned.ByteRate) || !opened.Load() {
			t.Errorf("%d bytes ahead, looked for: %v", to-tuned.Offset, opened.Load())
		}
		libtest.Equal(t, "title while it cannot be read", tuned.Ring.Title(), "")
		mended.Store(true)
		time.Sleep(2 * retryAfter)
		libtest.Equal(t, "title when it can", tuned.Ring.Title(), "tone")
		libtest.Equal(t, "stations", meter.playing.Load(), 1)
		tuned.Leave()
		tuned.Leave()
		time.Sleep(2 * time.Minute)
		_, _, ended := tuned.Ring.Span()
		libtest.Equal(t, "ended", ended, true)
		libtest.Equal(t, "stations", meter.playing.Load(), 0)
	})
}
