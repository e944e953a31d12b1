package library

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"carillon/audio/mpeg"
	"carillon/blobstore"
	"carillon/library/naming"
)

const (
	// leadBitRate is assumed where no frame says better: FreeSWITCH's.
	leadBitRate = 16_000
	// beginWait bounds how long a listener waits for a blob whose recording is
	// live and whose first bytes are not durable yet; a source that sends
	// nothing for so long is not worth listening to.
	beginWait = 10 * time.Second
	// beginPoll is how often he looks: the blob is begun while its recording is
	// being committed, so it is a matter of milliseconds.
	beginPoll = 20 * time.Millisecond
)

// OpenRecording opens a recording's bytes. A live one is followed to its end,
// or until ctx ends.
func (l *Library) OpenRecording(
	ctx context.Context, recordingID string, from From,
) (*blobstore.Reader, Recording, error) {
	if from != FromStart && from != FromNow && from != "" {
		return nil, Recording{}, fmt.Errorf("from %s, want %s or %s: %w",
			naming.Shown(string(from)), FromStart, FromNow, ErrBadRequest)
	}
	s, err := l.recordingPast(ctx, recordingID, StateWaiting)
	if err != nil {
		return nil, Recording{}, err
	}
	if err := l.checkPlayable(ctx, s); err != nil {
		return nil, Recording{}, err
	}
	r, err := l.openBlob(ctx, s)
	if err != nil {
		return nil, Recording{}, fmt.Errorf("open recording %s: %w", recordingID, err)
	}
	if s.State != StateLive {
		return r, s.Recording, nil
	}
	r.SetFollow(true)
	if from == FromNow {
		if err := seekLive(r, l.cfg.Burst); err != nil {
			return nil, Recording{}, errors.Join(fmt.Errorf("open recording %s: %w", recordingID, err), r.Close())
		}
	}
	s.Size = r.Info().Size
	l.measure(&s.Recording)
	return r, s.Recording, nil
}

func (l *Library) checkPlayable(ctx context.Context, s *stored) error {
	switch s.State {
	case StateLive, StateSealed, StateTruncated:
		return nil
	case StateStored:
		return l.rows.Find(ctx, func() error {
			_, err := l.itemOf(ctx, s)
			return err
		})
	case StateWaiting:
		return fmt.Errorf("recording %s has no source yet: %w", s.ID, ErrState)
	case StateDiscarded:
	}
	return fmt.Errorf("recording %s is %s: %w", s.ID, s.State, ErrNotFound)
}

// openBlob opens the recording's blob; of a live one it waits for the first
// bytes, since the recording is announced before there are any.
func (l *Library) openBlob(ctx context.Context, s *stored) (*blobstore.Reader, error) {
	r, err := l.shelf.Open(ctx, s.Blob)
	if s.State != StateLive || !errors.Is(err, blobstore.ErrNotFound) {
		return r, err
	}
	giveUp := time.NewTimer(beginWait)
	defer giveUp.Stop()
	poll := time.NewTicker(beginPoll)
	defer poll.Stop()
	for {
		select {
		case <-poll.C:
		case <-giveUp.C:
			return nil, fmt.Errorf("no sound yet: %w", ErrUnavailable)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if r, err = l.shelf.Open(ctx, s.Blob); !errors.Is(err, blobstore.ErrNotFound) {
			return r, err
		}
		// Ended without a byte, or discarded.
		if now, err := l.recording(ctx, s.ID); err != nil || now.State != StateLive {
			return nil, fmt.Errorf("it ended without sound: %w", ErrNotFound)
		}
	}
}

// seekLive moves to the lead before the end of what is there, at the beginning
// of a frame: a decoder that starts within one makes noise first.
func seekLive(r *blobstore.Reader, lead time.Duration) error {
	edge := r.Info().Size
	head, err := readAt(r, 0, min(edge, mpeg.FindFrameBytesMin))
	if err != nil {
		return err
	}
	bitRate := leadBitRate
	if at, ok := mpeg.FindFrame(head); ok {
		if h, err := mpeg.ParseHeader(head[at:]); err == nil {
			bitRate = h.BitRate
		}
	}
	start := edge - int64(float64(bitRate)/8*lead.Seconds()) - mpeg.FrameBytesMax
	if start <= 0 {
		_, err := r.Seek(0, io.SeekStart)
		return err
	}
	near, err := readAt(r, start, min(edge-start, mpeg.FindFrameBytesMin))
	if err != nil {
		return err
	}
	if at, ok := mpeg.FindFrame(near); ok {
		start += int64(at)
	}
	_, err = r.Seek(start, io.SeekStart)
	return err
}

// readAt reads n bytes that are there.
func readAt(r *blobstore.Reader, off, n int64) ([]byte, error) {
	if _, err := r.Seek(off, io.SeekStart); err != nil {
		return nil, err
	}
	p := make([]byte, n)
	_, err := io.ReadFull(r, p)
	return p, err
}
