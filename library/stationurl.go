package library

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"carillon/audio"
	"carillon/library/naming"
	"carillon/library/playtoken"
	"carillon/library/station"
)

// streamExtant is what asks for a continuous stream, in a lookup and in the
// query of a URL.
const streamExtant = "extant"

// Extant says whether the stream parameter of a URL asks for the continuous
// stream of what is there: "extant" does, "" and "new" do not. ErrBadRequest for
// anything else.
func Extant(stream string) (bool, error) {
	switch stream {
	case "", "new":
		return false, nil
	case streamExtant:
		return true, nil
	}
	return false, fmt.Errorf("stream %s, want new or %s: %w", naming.Shown(stream), streamExtant, ErrBadRequest)
}

// continuous says whether a lookup is answered with a continuous stream: a
// playlist is nothing else, and a recording in progress is one by itself.
func continuous(m Mount, r *LookupRequest) bool {
	if m.Playlist != nil {
		return true
	}
	return r.Stream == streamExtant && (m.Recording == nil || m.Recording.State != StateLive)
}

// stationAnswer leads to a continuous stream, which FreeSWITCH can only hear by
// mod_shout: what the others fetch must have an end. An item that no stream can
// be made of is played as it is.
func (l *Library) stationAnswer(ctx context.Context, m Mount, r *LookupRequest) (Lookup, error) {
	if _, err := l.program(ctx, m, station.Form{}); err != nil {
		if m.Doc != nil && errors.Is(err, ErrNotFound) {
			return l.itemAnswer(ctx, m.Doc, r)
		}
		return Lookup{}, err
	}
	answer := Lookup{Type: audio.FormatMP3.ContentType(), Player: PlayerShout}
	switch {
	case m.Doc != nil:
		answer.Account, answer.ID, answer.Revision = m.Doc.Account, m.Doc.ID, m.Doc.Revision
	case m.Playlist != nil:
		answer.Account, answer.ID, answer.Revision = m.Playlist.Account, m.Playlist.ID, m.Playlist.Revision
	case m.Recording != nil:
		answer.Account, answer.ID, answer.Revision = m.Recording.Account, m.Recording.Name, m.Recording.Revision
	}
	token, err := l.tokens.Sign(ctx, playtoken.Token{
		Account: answer.Account, ID: answer.ID, Stream: true,
		Expiry: playtoken.Expiry(time.Now(), l.cfg.PlayTTL),
	})
	if err != nil {
		return Lookup{}, err
	}
	// The HTTP port knows the token; to mod_shout all ports are alike.
	base := l.cfg.HTTPURL + "/play/" + token + "/"
	name := escapePath(withExt(answer.ID, audio.FormatMP3))
	if len(base)+len(name) > urlBytesMax {
		name = "audio" + audio.FormatMP3.Ext()
	}
	answer.StreamURL = base + name
	answer.FreeSWITCH = "shout" + strings.TrimPrefix(answer.StreamURL, "http")
	if r.Protocol == "shout" {
		name := withExt(answer.ID, audio.FormatMP3)
		answer.StreamURL = l.shoutURL(answer.Account, name) + "?stream=" + streamExtant
	}
	return answer, nil
}
