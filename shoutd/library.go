package shoutd

import (
	"context"
	"io"

	"carillon/blobstore"
	"carillon/internal/audience"
	"carillon/library"
	"carillon/library/station"
)

// Library is the part of the library that this door uses. [Over] makes one
// from the real library.
type Library interface {
	// Claim checks a source and begins its recording, see library.Service.
	Claim(ctx context.Context, r library.SourceRequest) (Session, error)
	// MayListen says whether somebody may listen.
	MayListen(ctx context.Context, w library.Listening) error
	// LiveGain is by how many dB a recording in progress is to be louder.
	LiveGain(ctx context.Context, account string, f library.Form) (float64, error)
	// Tune gives a listener a place in a continuous stream.
	Tune(ctx context.Context, account, id string, f library.Form) (station.Tuned, error)
	// Recording returns a recording.
	Recording(ctx context.Context, id string) (library.Recording, error)
	// Playing finds what {account}/{id} plays.
	Playing(ctx context.Context, account, id string) (m library.Mount, ext string, err error)
	// Render and RenderRecording say what an item or an ended recording is in a
	// form, and OpenRendition opens its bytes.
	Render(ctx context.Context, d *library.Document, f library.Form) (library.Rendition, error)
	RenderRecording(ctx context.Context, r *library.Recording, f library.Form) (library.Rendition, error)
	OpenRendition(ctx context.Context, r library.Rendition) (Blob, error)
	// OpenRecording opens the bytes of a recording. A live one is followed to
	// its end, or until ctx ends.
	OpenRecording(ctx context.Context, id string, from library.From) (Blob, library.Recording, error)
}

// Blob is the sound of an item or a recording, at an offset. WriteTo of a live
// one follows it to its end.
type Blob = audience.Source

// Session is a live recording that takes a source's bytes; its methods are
// those of library.Session. Write copies what it is given.
type Session interface {
	io.Writer
	Recording() library.Recording
	Done() <-chan struct{}
	SetTitle(title string, icy map[string]string)
	Close(ctx context.Context, how library.Ending) error
}

// Service is what [Over] needs of library.Service.
type Service interface {
	Claim(ctx context.Context, r library.SourceRequest) (*library.Session, error)
	MayListen(ctx context.Context, w library.Listening) error
	LiveGain(ctx context.Context, account string, f library.Form) (float64, error)
	Tune(ctx context.Context, account, id string, f library.Form) (station.Tuned, error)
	Recording(ctx context.Context, id string) (library.Recording, error)
	Playing(ctx context.Context, account, id string) (m library.Mount, ext string, err error)
	Render(ctx context.Context, d *library.Document, f library.Form) (library.Rendition, error)
	RenderRecording(ctx context.Context, r *library.Recording, f library.Form) (library.Rendition, error)
	OpenRendition(ctx context.Context, r library.Rendition) (*blobstore.Reader, error)
	OpenRecording(
		ctx context.Context, id string, from library.From,
	) (*blobstore.Reader, library.Recording, error)
}

var (
	_ Session = (*library.Session)(nil)
	_ Service = library.Service(nil)
	_ Blob    = (*blobstore.Reader)(nil)
	_ Library = overlay{}
)

// Over lets the real library serve as a Library.
func Over(s Service) Library { return overlay{s} }

// overlay turns concrete results into this package's interfaces, and a nil
// pointer beside an error into a nil interface.
type overlay struct{ Service }

func (o overlay) Claim(ctx context.Context, r library.SourceRequest) (Session, error) {
	s, err := o.Service.Claim(ctx, r)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (o overlay) OpenRendition(ctx context.Context, rd library.Rendition) (Blob, error) {
	r, err := o.Service.OpenRendition(ctx, rd)
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (o overlay) OpenRecording(
	ctx context.Context, id string, from library.From,
) (Blob, library.Recording, error) {
	r, rec, err := o.Service.OpenRecording(ctx, id, from)
	if err != nil {
		return nil, rec, err
	}
	return r, rec, nil
}
