package admin

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"

	"carillon/internal/web"
	"carillon/library"
	"carillon/library/field"
)

const (
	// wrapBytesMax is what may be wrapped around sound, beside half as much as
	// the sound itself: base64 takes a third and its ends of lines, and the
	// fields that mod_httapi sends along have a kilobyte.
	wrapBytesMax = 1 << 20
	// dataURIBytesMax bounds what stands before the bytes of a data URI.
	dataURIBytesMax = 256
)

// soundBody is the sound that a request brings. Nothing of the request's body
// is read before the first Read: until then it can be refused.
type soundBody struct {
	io.Reader

	request *web.Body
	// contentType is what the client calls the sound, "" if it does not.
	contentType string
	length      int64 // bytes, or -1 when unknown
}

// soundOf is the sound in the body of r: the bytes themselves, the one file of a
// form, as mod_httapi posts it (freeswitch-wire.md section 5), or base64,
// perhaps as a data URI. The last two are what Kazoo took. More than bytesMax is
// refused as far as it is announced; 0: not here.
func soundOf(w http.ResponseWriter, r *http.Request, bytesMax int64) (*soundBody, error) {
	if err := checkBodyForm(r); err != nil {
		return nil, err
	}
	body := &soundBody{
		request: web.NewBody(w, r), contentType: r.Header.Get("Content-Type"), length: r.ContentLength,
	}
	wrapped := &wrapping{body: body.request}
	mediaType, params, _ := mime.ParseMediaType(body.contentType)
	switch mediaType {
	case "multipart/form-data":
		if params["boundary"] == "" {
			return nil, fmt.Errorf("form without a boundary: %w", library.ErrBadRequest)
		}
		body.Reader = &formFile{around: wrapped, form: multipart.NewReader(wrapped, params["boundary"])}
	case "application/base64", "application/x-base64":
		body.Reader = &base64Body{around: wrapped, raw: bufio.NewReader(wrapped)}
	default:
		body.Reader, wrapped = body.request, nil
	}
	if wrapped != nil {
		body.contentType, body.length = "", -1
	}
	if bytesMax > 0 && wrapped != nil {
		bytesMax += bytesMax/2 + wrapBytesMax
	}
	if bytesMax > 0 && r.ContentLength > bytesMax {
		return nil, fmt.Errorf("body of %d bytes, at most %d: %w", r.ContentLength, bytesMax, library.ErrTooLarge)
	}
	return body, nil
}

// wrapping is a body that holds sound and other things, and ends when those are
// too many.
type wrapping struct {
	body  *web.Body
	sound int64 // bytes of it so far
}

// Read implements io.Reader.
func (w *wrapping) Read(p []byte) (int, error) {
	if w.body.Size() > w.sound+w.sound/2+wrapBytesMax {
		return 0, fmt.Errorf("more than %d bytes around the sound: %w", wrapBytesMax, library.ErrTooLarge)
	}
	return w.body.Read(p) //nolint:wrapcheck // io.Reader
}

// formFile is the one file of a form. Its other fields are passed over.
type formFile struct {
	around *wrapping
	form   *multipart.Reader
	file   *multipart.Part
	err    error // of the end
}

// Read implements io.Reader.
func (f *formFile) Read(p []byte) (n int, err error) {
	if f.err != nil {
		return 0, f.err
	}
	if f.file == nil {
		if f.file, f.err = f.next(); errors.Is(f.err, io.EOF) {
			f.err = field.Errors{"file": {Code: field.Required, Message: "is not in the form"}}
		}
		if f.err != nil {
			return 0, f.err
		}
	}
	n, err = f.file.Read(p)
	f.around.sound += int64(n)
	if errors.Is(err, io.EOF) {
		if _, err = f.next(); err == nil {
			err = field.Errors{"file": {Code: field.TooLong, Message: "is there more than once"}}
		}
	}
	f.err = err
	return n, err
}

// next is the next file, or io.EOF at the end of the form.
func (f *formFile) next() (*multipart.Part, error) {
	for {
		part, err := f.form.NextPart()
		switch {
		case errors.Is(err, io.EOF) && err != io.EOF: // wrapped: the body ended before the form
			return nil, io.ErrUnexpectedEOF
		case err != nil || part.FileName() != "":
			return part, err //nolint:wrapcheck // io.EOF is an answer
		}
	}
}

// base64Body is what a body says in base64.
type base64Body struct {
	around  *wrapping
	raw     *bufio.Reader
	decoder io.Reader // nil before the first Read
}

// Read implements io.Reader.
func (b *base64Body) Read(p []byte) (int, error) {
	if b.decoder == nil {
		if err := b.begin(); err != nil {
			return 0, err
		}
		b.decoder = base64.NewDecoder(base64.StdEncoding, b.raw)
	}
	n, err := b.decoder.Read(p)
	b.around.sound += int64(n)
	if _, corrupt := errors.AsType[base64.CorruptInputError](err); corrupt {
		return n, fmt.Errorf("body is not base64: %w", library.ErrBadRequest)
	}
	return n, err //nolint:wrapcheck // io.Reader
}

// begin passes over the head of a data URI (RFC 2397).
func (b *base64Body) begin() error {
	head, err := b.raw.Peek(dataURIBytesMax)
	if err != nil && !errors.Is(err, io.EOF) {
		return err //nolint:wrapcheck // of the body
	}
	if !bytes.HasPrefix(head, []byte("data:")) {
		return nil
	}
	end := bytes.IndexByte(head, ',')
	if end < 0 || !strings.HasSuffix(string(head[:end]), ";base64") {
		return fmt.Errorf("data URI that is not base64: %w", library.ErrBadRequest)
	}
	_, err = b.raw.Discard(end + 1)
	return err //nolint:wrapcheck // of the body
}
