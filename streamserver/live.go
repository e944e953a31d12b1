package streamserver

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"carillon/blobstore"
	"carillon/internal/web"
	"carillon/library"
)

// recording plays a recording under its media name: followed while a source
// sends, finite after that.
func (p *player) recording(rec library.Recording, query url.Values) error {
	from := library.FromStart
	switch v := library.From(query.Get("from")); v {
	case "", library.FromStart:
	case library.FromNow:
		from = v
	default:
		return &web.Error{
			Status: http.StatusBadRequest, Code: library.FaultOf(library.ErrBadRequest).Code,
			Message: "from is start or now",
		}
	}
	if rec.State == library.StateLive && p.r.Method == http.MethodHead {
		p.liveHead(rec)
		return nil
	}
	if ended(rec) && from == library.FromStart && rec.SHA256 != "" {
		return p.ended(rec)
	}
	rd, rec, err := p.server.library.OpenRecording(p.r.Context(), rec.ID, from)
	if err != nil {
		return err
	}
	err = p.follow(rd, rec)
	return errors.Join(err, rd.Close())
}

func ended(rec library.Recording) bool {
	return rec.State == library.StateSealed || rec.State == library.StateTruncated
}

// ended plays a recording that nobody has stored yet.
func (p *player) ended(rec library.Recording) error {
	modified := rec.Created
	if rec.Ended != nil {
		modified = *rec.Ended
	}
	return p.item(&item{
		size: rec.Size, sha256: rec.SHA256, contentType: rec.ContentType, modified: modified, cache: cacheEnded,
		open: p.opener(rec.ID),
	})
}

func (p *player) liveHead(rec library.Recording) {
	h := p.w.Header()
	h.Set("Content-Type", rec.ContentType)
	h.Set("Cache-Control", cacheLive)
	p.w.WriteHeader(http.StatusOK)
}

// follow sends what is there as fast as the client reads, and then each
// append at once: mod_shout plays a second of silence at every underrun.
func (p *player) follow(rd *blobstore.Reader, rec library.Recording) error {
	p.liveHead(rec)
	control := http.NewResponseController(p.w)
	// The head goes out before the first sound: curl's caller waits for it.
	if err := control.Flush(); err != nil {
		return err
	}
	_, err := rd.WriteTo(&liveWriter{p, control, false})
	return err
}

// liveWriter sends each append at once.
type liveWriter struct {
	*player
	control *http.ResponseController
	begun   bool
}

// Write sends p and does not leave it in a buffer.
func (o *liveWriter) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if err == nil {
		err = o.control.Flush()
	}
	if !o.begun {
		o.begun = true
		o.server.metrics.first.Observe(time.Since(o.start).Seconds())
	}
	return n, err
}

// opener opens a recording from its start.
func (p *player) opener(id string) func(context.Context) (*blobstore.Reader, error) {
	return func(ctx context.Context) (*blobstore.Reader, error) {
		rd, _, err := p.server.library.OpenRecording(ctx, id, library.FromStart)
		return rd, err
	}
}
