package library

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"carillon/audio"
	"carillon/library/station"
)

const (
	// stationRateMax is the sample rate of a continuous stream of anything that is
	// recorded finer, unless the request wants another: wideband telephony.
	stationRateMax = 16000
	// sampleBytes of audio.ContainerRaw.
	sampleBytes = 2
)

// Tune gives a listener a place in the continuous stream of {account}/{id}, which
// it starts unless it runs. Of f the sample rate, the bit rate and the gain
// count. It returns ErrNotFound, ErrBadRequest for rates that no MP3 has, and
// ErrLimit.
func (l *Library) Tune(ctx context.Context, account, id string, f Form) (station.Tuned, error) {
	return l.stations.Tune(ctx, account, id, station.Form{
		SampleRate: f.SampleRate, BitRate: f.BitRate, GainDB: f.GainDB, GainSet: f.GainSet,
	})
}

// programs implements station.Sounds.
type programs struct{ l *Library }

// Program implements station.Sounds.
func (p programs) Program(
	ctx context.Context, account, id string, f station.Form,
) (station.Program, error) {
	m, _, err := p.l.Playing(ctx, account, id)
	if err != nil {
		return station.Program{}, err
	}
	return p.l.program(ctx, m, f)
}

// ProgramNow implements station.Sounds.
func (p programs) ProgramNow(
	ctx context.Context, account, id string, f station.Form,
) (station.Program, error) {
	m, _, err := p.l.playing(ctx, account, id)
	if err != nil {
		return station.Program{}, err
	}
	return p.l.program(ctx, m, f)
}

// program is what a place plays as a continuous stream: an item or an ended
// recording alone, or the items of a playlist that can be had. It returns
// ErrNotFound when there is nothing.
func (l *Library) program(ctx context.Context, m Mount, f station.Form) (station.Program, error) {
	docs, err := l.programItems(ctx, m)
	if err != nil {
		return station.Program{}, err
	}
	p := station.Program{SampleRate: f.SampleRate}
	if p.SampleRate == 0 {
		p.SampleRate = commonRate(docs)
	}
	if m.Playlist != nil && m.Playlist.Shuffle {
		p.Shuffle = m.Playlist.Account + "/" + m.Playlist.ID
	}
	gain := Form{GainDB: f.GainDB, GainSet: f.GainSet}
	if len(docs) > 0 {
		if err := l.defaultGain(ctx, docs[0].Account, &gain); err != nil {
			return station.Program{}, err
		}
	}
	p.GainDB = gain.GainDB
	for i := range docs {
		pcm := Form{
			Form:    audio.Form{Container: audio.ContainerRaw, SampleRate: p.SampleRate, Channels: 1},
			GainSet: true, // the encoder's, which cuts nothing off
		}
		r, err := l.Render(ctx, &docs[i], pcm)
		if errors.Is(err, ErrNoForm) || err == nil && r.Size < sampleBytes {
			continue // it cannot be decoded, or is empty
		}
		if err != nil {
			return station.Program{}, err
		}
		p.Pieces = append(p.Pieces, station.Piece{
			SHA256: r.SHA256, Title: cmp.Or(docs[i].Name, docs[i].ID), Samples: r.Size / sampleBytes,
			Open: func(ctx context.Context) (io.ReadSeekCloser, error) { return l.OpenRendition(ctx, r) },
		})
	}
	if len(p.Pieces) == 0 {
		return p, fmt.Errorf("nothing of it can be played continuously: %w", ErrNotFound)
	}
	return p, nil
}

// programItems are what a program is made of.
func (l *Library) programItems(ctx context.Context, m Mount) ([]Document, error) {
	switch {
	case m.Doc != nil:
		return []Document{*m.Doc}, nil
	case m.Recording != nil:
		return []Document{recordedDocument(m.Recording)}, nil
	case m.Playlist == nil:
		return nil, ErrNotFound
	}
	p := m.Playlist
	docs := make([]Document, 0, len(p.Items))
	for _, name := range p.Items {
		account, id := p.place(name)
		d, err := l.item(ctx, account, id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		docs = append(docs, *d)
	}
	return docs, nil
}

// recordedDocument is an ended recording as the document it may become.
func recordedDocument(rec *Recording) Document {
	d := Document{
		Account: rec.Account, ID: rec.Name, Blob: rec.Blob, Size: rec.Size, SHA256: rec.SHA256,
		ContentType: rec.ContentType,
	}
	if rec.Audio != nil {
		d.Audio = *rec.Audio
	}
	return d
}

func commonRate(docs []Document) int {
	for i := range docs {
		if docs[i].Audio.SampleRate > formRateDefault {
			return stationRateMax
		}
	}
	return formRateDefault
}
