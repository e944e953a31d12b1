package streamserver

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"carillon/audio"
	"carillon/blobstore"
	"carillon/internal/relay"
	"carillon/internal/web"
	"carillon/library"
)

// recording plays a recording under its media name: followed while a source
// sends, finite after that.
func (p *player) recording(rec library.Recording, ext string, query url.Values) error {
	form, err := library.ParseForm(ext, query.Get)
	if err != nil {
		return err
	}
	extant, err := p.extant()
	if err != nil {
		return err
	}
	from, err := fromOf(query)
	switch {
	case err != nil:
		return err
	case rec.State == library.StateLive:
		return p.live(rec, form, from)
	case extant:
		return p.station(rec.Account, rec.Name, ext, rec.Title, form)
	case ended(rec) && from == library.FromStart && rec.SHA256 != "":
		return p.ended(rec, form)
	}
	return p.opened(rec, from)
}

// fromOf is where a listener wants to begin.
func fromOf(query url.Values) (library.From, error) {
	switch v := library.From(query.Get("from")); v {
	case "":
		return library.FromStart, nil
	case library.FromStart, library.FromNow:
		return v, nil
	}
	return "", &web.Error{
		Status: http.StatusBadRequest, Code: library.FaultOf(library.ErrBadRequest).Code,
		Message: "from is start or now",
	}
}

// live hands a listener of a recording in progress to the audience.
func (p *player) live(rec library.Recording, form library.Form, from library.From) error {
	if !plays(rec, form) {
		p.w.Header().Set("Link", "<"+p.server.library.ListenURL(rec)+`>; rel="alternate"; type="audio/mpeg"`)
		return library.ErrLiveForm
	}
	if p.r.Method == http.MethodHead {
		p.liveHead(rec)
		return nil
	}
	leave, err := p.server.audience.Admit(rec.Account + "/" + rec.Name)
	if err != nil {
		return errFull
	}
	gainDB := 0.0
	if probed(&rec).Format == audio.FormatMP3 {
		if gainDB, err = p.server.library.LiveGain(p.r.Context(), rec.Account, form); err != nil {
			leave()
			return err
		}
	}
	place, err := p.server.relay.Join(p.r.Context(), &rec, from, gainDB)
	if err != nil {
		leave()
		if errors.Is(err, relay.ErrNotLive) {
			return p.opened(rec, from)
		}
		return err
	}
	server := p.server
	err = p.takeSeat(rec.ContentType, relay.Title(&rec), func(s *seat) {
		if s == nil {
			place.Leave()
			leave()
			return
		}
		_ = place.Listen(relay.Listener{
			Conn: s.conn, Close: s.closing, Metadata: s.metadata, Chunked: s.chunked,
			Left: func(bytes int64, _ error) {
				leave()
				server.metrics.bytes.Add(float64(bytes))
			},
		})
	})
	if err != nil {
		place.Leave()
		leave()
	}
	return err
}

// opened plays a recording as it is read, which may go on.
func (p *player) opened(rec library.Recording, from library.From) error {
	rd, followed, err := p.server.library.OpenRecording(p.r.Context(), rec.ID, from)
	if err != nil {
		return err
	}
	err = p.follow(rd, followed)
	return errors.Join(err, rd.Close())
}

// plays says whether a recording in progress can be heard in a form: only as it
// comes, or MP3 as loud as may be. mod_shell_stream and mod_http_cache, which ask for other forms, play
// nothing before the end of what they fetch, and while they wait the call cannot
// be hung up (freeswitch-wire.md 4 and 6).
func plays(rec library.Recording, form library.Form) bool {
	info := probed(&rec)
	if info.Format == audio.FormatMP3 {
		form.GainDB = 0
	}
	return form.AsStored(&info)
}

// probed is what a recording in progress is, as far as is known.
func probed(rec *library.Recording) audio.Info {
	var info audio.Info
	if rec.Audio != nil {
		info = *rec.Audio
	}
	if info.Format == "" && (rec.ContentType == "" || rec.ContentType == audio.FormatMP3.ContentType()) {
		info.Format = audio.FormatMP3 // not measured yet
	}
	return info
}

func ended(rec library.Recording) bool {
	return rec.State == library.StateSealed || rec.State == library.StateTruncated
}

// ended plays a recording that nobody has stored yet.
func (p *player) ended(rec library.Recording, form library.Form) error {
	modified := rec.Created
	if rec.Ended != nil {
		modified = *rec.Ended
	}
	r, err := p.server.library.RenderRecording(p.r.Context(), &rec, form)
	if err != nil {
		return err
	}
	return p.rendition(&r, modified, cacheEnded)
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
