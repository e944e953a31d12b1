package library

import (
	"context"
	"errors"
	"time"

	"carillon/blobstore"
	"carillon/library/naming"
	"carillon/library/rows"
)

// titleEvery is the least time between two commits of a live recording's
// title: songs last minutes, and a client that sends a thousand a second costs
// one commit in this time, with the last of them.
const titleEvery = 2 * time.Second

// SetTitle notes what the source says is heard now, and what it says of itself
// with headers that came after it was let in (nil: nothing). Listeners on this
// node have it at once, those on others soon, and the recording keeps the last
// one. It does not wait.
func (s *Session) SetTitle(title string, icy map[string]string) {
	if !naming.IsPlain(title) || len(title) > TextBytesMax {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if title != "" {
		s.title = title
	}
	if len(icy) > 0 {
		s.icy = boundedICY(icy)
	}
	if s.ended || s.retitling {
		return // its end, or the commit that is due, takes it along
	}
	s.retitling = true
	select {
	case s.retitle <- struct{}{}:
	default:
	}
}

// describe fills in what the source has said of itself.
func (s *Session) describe(rec *Recording) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.describeLocked(rec)
}

func (s *Session) describeLocked(rec *Recording) {
	if s.title != "" {
		rec.Title = s.title
	}
	for k, v := range s.icy {
		if rec.ICY == nil {
			rec.ICY = make(map[string]string)
		}
		rec.ICY[k] = v
	}
}

// keepTitle commits the title of a live recording. When that fails the end of
// the recording does it.
func (s *Session) keepTitle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	_, err := s.lib.rows.Write(ctx, func() (blobstore.Txn, error) {
		r, err := s.lib.recording(ctx, s.id)
		if err != nil {
			return blobstore.Txn{}, err
		}
		if r.State != StateLive || r.Blob != s.blob {
			return blobstore.Txn{}, rows.ErrDone
		}
		s.mu.Lock()
		s.retitling = false
		s.describeLocked(&r.Recording)
		s.mu.Unlock()
		c := s.lib.newChange()
		c.putRecording(r)
		return c.Done()
	})
	if err != nil && !errors.Is(err, rows.ErrDone) && ctx.Err() == nil {
		s.lib.log.WarnContext(ctx, "title is not kept yet", "recording_id", s.id, "error", err)
	}
}
