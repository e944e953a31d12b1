package shoutd

import (
	"context"
	"io"

	"carillon/blobstore"
	"carillon/library"
)

// Library is the part of the library that this door uses. [Over] makes one
// from the real library.
type Library interface {
	// Claim checks a source and begins its recording, see library.Service.
	Claim(ctx context.Context, r library.SourceRequest) (Session, error)
	// Mount finds what {account}/{id} plays.
	Mount(ctx context.Context, account, id string) (library.Mount, error)
	// OpenItem opens the bytes of a stored item.
	OpenItem(ctx context.Context, doc library.Document) (Blob, error)
	// OpenRecording opens the bytes of a recording. A live one is followed to
	// its end, or until ctx ends.
	OpenRecording(ctx context.Context, id string, from library.From) (Blob, library.Recording, error)
}

// Blob is the sound of an item or a recording, at an offset. WriteTo of a live
// one follows it to its end. When the writer takes less than it was given and
// returns an error, WriteTo returns that and the bytes that were taken.
type Blob interface {
	io.WriterTo
	io.Seeker
	io.Closer
}

// Session is a live recording that takes a source's bytes; its methods are
// those of library.Session. Write copies what it is given.
type Session interface {
	io.Writer
	Recording() library.Recording
	Done() <-chan struct{}
	Close(ctx context.Context, how library.Ending) error
}

// Service is what [Over] needs of library.Service.
type Service interface {
	Claim(ctx context.Context, r library.SourceRequest) (*library.Session, error)
	Mount(ctx context.Context, account, id string) (library.Mount, error)
	OpenItem(ctx context.Context, doc library.Document) (*blobstore.Reader, error)
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
type overlay struct{ service Service }

func (o overlay) Claim(ctx context.Context, r library.SourceRequest) (Session, error) {
	s, err := o.service.Claim(ctx, r)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (o overlay) Mount(ctx context.Context, account, id string) (library.Mount, error) {
	return o.service.Mount(ctx, account, id)
}

func (o overlay) OpenItem(ctx context.Context, doc library.Document) (Blob, error) {
	r, err := o.service.OpenItem(ctx, doc)
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (o overlay) OpenRecording(
	ctx context.Context, id string, from library.From,
) (Blob, library.Recording, error) {
	r, rec, err := o.service.OpenRecording(ctx, id, from)
	if err != nil {
		return nil, rec, err
	}
	return r, rec, nil
}
