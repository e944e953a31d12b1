package library

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"carillon/audio"
	"carillon/blobstore"
	"carillon/library/naming"
)

const (
	// headBytes is when a body must have shown that it is audio. Players look
	// less far; an ID3 tag in front does not count.
	headBytes = 64 << 10
	// id3HeadBytes is the header of an ID3v2 tag.
	id3HeadBytes = 10
	// id3BytesMax bounds such a tag: the cover of an album has some megabytes.
	id3BytesMax = 16 << 20
	// abortWait bounds the removal of a blob whose upload failed. When it does
	// not suffice the sweep of unreferenced blobs does the work.
	abortWait = 2 * time.Second
)

// sound is what an upload brought: a sealed blob that nothing refers to yet, or
// a small one that is to be stored with the row that will.
type sound struct {
	blob   blobstore.ID
	totals blobstore.Totals
	info   audio.Info
	whole  *blobstore.Sound // nil: it is sealed
	// release gives the bytes of whole back; it may be called twice.
	release func()
}

// receive streams a body of at most limit bytes onto the shelf and through the
// prober at once. Nothing remains of it on error.
func (l *Library) receive(
	ctx context.Context, to blobstore.Writer, body io.Reader, length, limit int64,
) (sound, error) {
	in := &intake{body: body, limit: limit, length: length}
	recorder := blobstore.NewRecorder(ctx, to, blobstore.RecorderConfig{Buffers: l.buffers})
	s, err := in.record(ctx, recorder)
	if err == nil {
		return s, nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortWait)
	defer cancel()
	if abortErr := recorder.Abort(bounded); abortErr != nil {
		l.log.WarnContext(ctx, "failed upload is left to the sweep", "blob_id", recorder.ID(), "error", abortErr)
	}
	return sound{}, err
}

// intake is a body that is judged while it is read. The Recorder keeps a first
// chunk to itself until a second comes, so what is refused by its head has
// cost no write.
type intake struct {
	body          io.Reader
	prober        audio.Prober
	limit, length int64
	total         int64
	head          [id3HeadBytes]byte
	recognised    bool
}

func (in *intake) record(ctx context.Context, recorder *blobstore.Recorder) (sound, error) {
	var s sound
	if _, err := recorder.ReadFrom(in); err != nil { //nolint:contextcheck // it was made with ctx
		return s, err
	}
	if in.length >= 0 && in.total != in.length {
		return s, fmt.Errorf("body of %d bytes, %d announced: %w", in.total, in.length, ErrIncomplete)
	}
	var err error
	if s.info, err = in.result(); err != nil {
		return s, err
	}
	whole, ok, err := recorder.Whole()
	switch {
	case err != nil:
		return s, err
	case ok:
		s.blob, s.totals, s.whole = whole.ID, whole.Totals, &whole
	default:
		s.blob, s.totals, err = recorder.Seal(ctx)
	}
	s.release = recorder.Release
	return s, err
}

// Read implements io.Reader.
func (in *intake) Read(p []byte) (int, error) {
	n, err := in.body.Read(p)
	if in.total < id3HeadBytes {
		copy(in.head[in.total:], p[:n])
	}
	in.total += int64(n)
	_, _ = in.prober.Write(p[:n]) // never fails
	switch {
	case in.total > in.limit:
		return n, fmt.Errorf("body of more than %d bytes: %w", in.limit, ErrTooLarge)
	case err != nil && !errors.Is(err, io.EOF):
		return n, bodyError(err)
	case err == nil && !in.recognised && in.total >= headBytes+id3Bytes(in.head[:]):
		_, unknown := in.result()
		in.recognised = unknown == nil
		return n, unknown
	}
	return n, err
}

func (in *intake) result() (audio.Info, error) {
	info, err := in.prober.Result()
	if err != nil {
		return audio.Info{}, fmt.Errorf("body: %w: %w", ErrUnsupportedMedia, err)
	}
	return info, nil
}

// id3Bytes is the length that an ID3v2 tag at the start of b announces, at
// most id3BytesMax: four bytes of seven bits (ID3v2.4 section 3.1).
func id3Bytes(b []byte) int64 {
	if len(b) < id3HeadBytes || string(b[:3]) != "ID3" {
		return 0
	}
	v := binary.BigEndian.Uint32(b[6:])
	return min(int64(v>>24&0x7f<<21|v>>16&0x7f<<14|v>>8&0x7f<<7|v&0x7f), id3BytesMax)
}

// bodyError says what a failing body means: the door's limit, or a client that
// went away in the middle.
func bodyError(err error) error {
	if _, limited := errors.AsType[*http.MaxBytesError](err); limited {
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return fmt.Errorf("%w: %w", ErrIncomplete, err)
}

// checkContentType refuses what the client itself does not call audio. The
// type is otherwise not believed: curl calls everything a form, and browsers
// call MP3 what they like.
func checkContentType(declared string) error {
	mediaType, _, err := mime.ParseMediaType(declared)
	if err != nil {
		return nil //nolint:nilerr // none, or none that says anything
	}
	kind, sub, _ := strings.Cut(mediaType, "/")
	switch kind {
	case "text", "image", "font", "model", "message", "multipart":
	case "application":
		switch {
		case strings.HasSuffix(sub, "json"), strings.HasSuffix(sub, "xml"):
		case sub == "pdf", sub == "zip", sub == "gzip", sub == "javascript", sub == "wasm":
		default:
			return nil
		}
	default:
		return nil
	}
	return fmt.Errorf("content type %s: %w", naming.Shown(mediaType), ErrUnsupportedMedia)
}
