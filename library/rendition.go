package library

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"carillon/audio"
	"carillon/audio/layer3"
	"carillon/blobstore"
	"carillon/library/forms"
)

// converterVersion is part of the name, and so of the ETag, of every converted
// form. It is raised when the same source gives other bytes, so that nodes of
// different releases, and caches, are never taken for having the same.
const converterVersion = 2

// Rendition is an item or an ended recording as it is sent: as stored, or in
// another form. It is the same on every node.
type Rendition struct {
	Size        int64
	SHA256      string // of the bytes as stored; of another form the name of its making
	ContentType string
	// Form is what it is converted to, and Converted false when it is as stored.
	Form      Form
	Converted bool

	blob   blobstore.ID
	what   string // for errors
	recipe forms.Recipe
}

// ETag is the strong validator of the bytes.
func (r *Rendition) ETag() string { return `"` + r.SHA256 + `"` }

// Render says what a document sounds like in a form. It reads nothing of the
// sound. It returns ErrNoForm when the item cannot be converted to it.
func (l *Library) Render(ctx context.Context, d *Document, f Form) (Rendition, error) {
	if err := l.defaultGain(ctx, d.Account, &f); err != nil {
		return Rendition{}, err
	}
	return l.render(Rendition{
		Size: d.Size, SHA256: d.SHA256, ContentType: d.ContentType, Form: f,
		blob: d.Blob, what: d.Account + "/" + d.ID,
	}, &d.Audio)
}

// RenderRecording is Render for a recording that has ended.
func (l *Library) RenderRecording(ctx context.Context, rec *Recording, f Form) (Rendition, error) {
	if err := l.defaultGain(ctx, rec.Account, &f); err != nil {
		return Rendition{}, err
	}
	var info audio.Info
	if rec.Audio != nil {
		info = *rec.Audio
	}
	return l.render(Rendition{
		Size: rec.Size, SHA256: rec.SHA256, ContentType: rec.ContentType, Form: f,
		blob: rec.Blob, what: "recording " + rec.ID,
	}, &info)
}

// LiveGain is by how many dB a recording in progress is to be louder: what its
// form says, else what its account does.
func (l *Library) LiveGain(ctx context.Context, account string, f Form) (float64, error) {
	err := l.defaultGain(ctx, account, &f)
	return f.GainDB, err
}

func (l *Library) defaultGain(ctx context.Context, account string, f *Form) error {
	if f.GainSet {
		return nil
	}
	s, err := l.settings(ctx, account)
	if err != nil {
		return err
	}
	f.GainDB = roundGain(s.GainDB)
	return nil
}

// render turns the sound as stored into what its form asks for. A default gain
// is no reason to refuse what cannot be converted.
func (l *Library) render(r Rendition, info *audio.Info) (Rendition, error) {
	if r.Form.AsStored(info) {
		return r, nil
	}
	plain := r.Form
	plain.GainDB = 0
	if err := l.convert(&r, info); err != nil {
		if !r.Form.GainSet && plain.AsStored(info) {
			return r, nil
		}
		return Rendition{}, err
	}
	return r, nil
}

// convert fills in how r is made.
func (l *Library) convert(r *Rendition, info *audio.Info) error {
	want := r.Form.Form
	if want.Container == "" {
		want.Container = audio.Container(info.Format)
	}
	lossless := r.Form.lossless(info)
	size, contentType := r.Size, r.ContentType
	if !lossless {
		full, err := want.Of(*info)
		if err != nil {
			return fmt.Errorf("%s as %s: %w", r.what, want.Container, formFault(err))
		}
		var known bool
		if size, known = full.Size(*info); !known {
			return fmt.Errorf("%s as %s: its length is not known: %w", r.what, want.Container, ErrNoForm)
		}
		want, contentType = full, full.ContentType()
	}
	r.Form.Form, r.Converted = want, true
	key := formKey(r.SHA256, r.Form)
	blob, form, source := r.blob, r.Form, *info
	r.Size, r.ContentType, r.SHA256 = size, contentType, key.String()
	r.recipe = forms.Recipe{
		Key: key, Size: size, Fill: silenceOf(want.Container),
		Make: func(ctx context.Context, offset int64) (io.ReadCloser, error) {
			rd, err := l.shelf.Open(ctx, blob)
			if err != nil {
				return nil, err
			}
			src, err := form.reader(rd, source, offset, lossless)
			if err != nil {
				return nil, errors.Join(err, rd.Close())
			}
			return madeSound{src, rd}, nil
		},
	}
	return nil
}

// madeSound is a conversion that closes what it reads.
type madeSound struct {
	io.Reader
	io.Closer
}

// formFault says whether the request or the item is why there is no such form.
func formFault(err error) error {
	if errors.Is(err, audio.ErrNoSuchForm) || errors.Is(err, layer3.ErrNoSuchRate) {
		return fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	return fmt.Errorf("%w: %w", ErrNoForm, err)
}

// formKey names a form of a content, by all that its bytes depend on.
func formKey(source string, f Form) forms.Key {
	return sha256.Sum256(fmt.Appendf(nil, "carillon form\n%d\n%s\n%s %d %d %d\n%.1f\n", converterVersion,
		source, f.Container, f.SampleRate, f.Channels, f.BitRate, f.GainDB))
}

// silenceOf is the byte that fills up a conversion that came out short.
func silenceOf(c audio.Container) byte {
	switch c {
	case audio.ContainerMulaw:
		return 0xFF
	case audio.ContainerAlaw:
		return 0xD5
	case audio.ContainerWAV, audio.ContainerRaw, audio.ContainerRaw24, audio.ContainerRaw32, audio.ContainerMP3:
	}
	return 0
}

// ListenURL is where a recording is heard while it grows: the SHOUT port.
func (l *Library) ListenURL(r Recording) string { return l.shoutURL(r.Account, r.Name) }

// OpenRendition opens the bytes. Those of another form are made while they are
// read, once for all who want them at the same time, and kept.
func (l *Library) OpenRendition(ctx context.Context, r Rendition) (*blobstore.Reader, error) {
	rd, err := l.openRendition(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", r.what, err)
	}
	return rd, nil
}

func (l *Library) openRendition(ctx context.Context, r Rendition) (*blobstore.Reader, error) {
	if r.Converted {
		return l.forms.Open(ctx, r.recipe)
	}
	return l.shelf.Open(ctx, r.blob)
}
