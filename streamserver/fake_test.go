package streamserver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"carillon/audio"
	"carillon/blobstore"
	"carillon/library"
	"carillon/library/naming"
	"carillon/library/station"
)

// blob is a blob in memory that may grow.
type blob struct {
	mu      sync.Mutex // guards the fields below
	data    []byte
	sealed  bool
	fail    error // what reads beyond failAt return
	failAt  int64
	changed chan struct{} // closed and made anew at each change
	open    int           // views
	buffers *blobstore.Buffers
}

func newBlob(data []byte, sealed bool) *blob {
	return &blob{data: data, sealed: sealed, changed: make(chan struct{}), buffers: blobstore.NewBuffers()}
}

// grow appends, or seals when there is nothing to append.
func (b *blob) grow(p []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.data = append(b.data, p...)
	b.sealed = len(p) == 0
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *blob) info() (blobstore.Info, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return blobstore.Info{Size: int64(len(b.data)), Sealed: b.sealed}, b.changed
}

func (b *blob) views() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open
}

// view implements blobstore.View on a blob.
type view struct {
	*blob
	once sync.Once
}

func (b *blob) reader(ctx context.Context) *blobstore.Reader {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open++
	return blobstore.NewReader(ctx, &view{blob: b})
}

// Buffers lets the Reader use a pool, as that of a store does.
func (v *view) Buffers() *blobstore.Buffers { return v.buffers }

func (v *view) Info() blobstore.Info {
	info, _ := v.info()
	return info
}

func (v *view) Read(_ context.Context, off int64, p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.fail != nil && off >= v.failAt {
		return 0, v.fail
	}
	if off >= int64(len(v.data)) {
		return 0, io.EOF
	}
	return copy(p, v.data[off:]), nil
}

func (v *view) Wait(ctx context.Context, size int64) (blobstore.Info, error) {
	for {
		info, changed := v.info()
		if info.Size > size || info.Sealed {
			return info, nil
		}
		select {
		case <-ctx.Done():
			return info, ctx.Err()
		case <-changed:
		}
	}
}

func (v *view) Close() error {
	v.once.Do(func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.open--
	})
	return nil
}

// fakeLibrary is a library in memory, as far as playing can tell.
type fakeLibrary struct {
	converted atomic.Bool // all is said to be

	mu         sync.Mutex // guards the fields below
	docs       map[string]library.Document
	blobs      map[blobstore.ID]*blob
	recordings map[string]library.Recording // by account/name
	tokens     map[string]library.Document
	fail       error
	asked      library.Consistency
}

func newFake() *fakeLibrary {
	return &fakeLibrary{
		docs: map[string]library.Document{}, blobs: map[blobstore.ID]*blob{},
		recordings: map[string]library.Recording{}, tokens: map[string]library.Document{},
	}
}

// modified is a time with a fraction, which no header can say.
func modified() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 890_000_000, time.UTC) }

// store makes an item of account "acc".
func (f *fakeLibrary) store(id string, format audio.Format, data []byte) library.Document {
	f.mu.Lock()
	defer f.mu.Unlock()
	sum := sha256.Sum256(data)
	doc := library.Document{
		Account: "acc", ID: id, Blob: blobstore.NewID(), Size: int64(len(data)),
		SHA256: hex.EncodeToString(sum[:]), ContentType: format.ContentType(),
		Audio: audio.Info{Format: format}, Modified: modified(),
	}
	f.docs["acc/"+id] = doc
	f.blobs[doc.Blob] = newBlob(data, true)
	return doc
}

// record begins a recording.
func (f *fakeLibrary) record(account, name string) (library.Recording, *blob) {
	f.mu.Lock()
	defer f.mu.Unlock()
	rec := library.Recording{
		ID: account + "/" + name, Account: account, Name: name, State: library.StateLive,
		Blob: blobstore.NewID(), ContentType: "audio/mpeg", Created: modified(),
	}
	b := newBlob(nil, false)
	f.recordings[rec.ID] = rec
	f.blobs[rec.Blob] = b
	return rec, b
}

// end seals a recording.
func (f *fakeLibrary) end(rec library.Recording, state library.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.blobs[rec.Blob]
	b.grow(nil)
	sum := sha256.Sum256(b.data)
	ended := modified().Add(time.Hour)
	rec.State, rec.Size, rec.SHA256, rec.Ended = state, int64(len(b.data)), hex.EncodeToString(sum[:]), &ended
	f.recordings[rec.ID] = rec
}

func (f *fakeLibrary) Get(_ context.Context, account, id string, c library.Consistency) (
	library.Document, error,
) {
	if err := naming.CheckAccount(account); err != nil {
		return library.Document{}, err
	}
	if err := naming.CheckID(id); err != nil {
		return library.Document{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = c
	if f.fail != nil {
		return library.Document{}, f.fail
	}
	doc, ok := f.docs[account+"/"+id]
	if !ok {
		return doc, fmt.Errorf("item %s/%s: %w", account, id, library.ErrNotFound)
	}
	return doc, nil
}

// Render knows items as they are stored, and nothing that is made of them.
func (f *fakeLibrary) Render(
	_ context.Context, d *library.Document, form library.Form,
) (library.Rendition, error) {
	if !form.AsStored(&d.Audio) {
		return library.Rendition{}, library.ErrNoForm
	}
	return library.Rendition{
		Size: d.Size, SHA256: d.SHA256, ContentType: d.ContentType, Converted: f.converted.Load(),
	}, nil
}

func (f *fakeLibrary) RenderRecording(
	_ context.Context, r *library.Recording, _ library.Form,
) (library.Rendition, error) {
	return library.Rendition{Size: r.Size, SHA256: r.SHA256, ContentType: r.ContentType}, nil
}

func (f *fakeLibrary) ListenURL(r library.Recording) string {
	return "shout://127.0.0.1:8000/" + r.Account + "/" + r.Name
}

func (f *fakeLibrary) OpenRendition(ctx context.Context, r library.Rendition) (*blobstore.Reader, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.docs {
		if b, ok := f.blobs[d.Blob]; ok && d.SHA256 == r.SHA256 {
			return b.reader(ctx), nil
		}
	}
	for _, rec := range f.recordings {
		if rec.SHA256 == r.SHA256 {
			return f.blobs[rec.Blob].reader(ctx), nil
		}
	}
	return nil, blobstore.ErrNotFound
}

func (f *fakeLibrary) MayListen(_ context.Context, w library.Listening) error {
	if !w.Network {
		return library.ErrForbidden
	}
	return nil
}

// Tune is tested with the library itself.
// LiveGain knows no accounts.
func (f *fakeLibrary) LiveGain(_ context.Context, _ string, form library.Form) (float64, error) {
	return form.GainDB, nil
}

func (f *fakeLibrary) Tune(context.Context, string, string, library.Form) (station.Tuned, error) {
	return station.Tuned{}, library.ErrNotFound
}

func (f *fakeLibrary) OpenStream(context.Context, string) (account, id string, ok bool, err error) {
	return "", "", false, nil
}

func (f *fakeLibrary) OpenPlay(_ context.Context, token string) (library.Document, error) {
	switch token {
	case "expired":
		return library.Document{}, library.ErrExpired
	case "forged":
		return library.Document{}, library.ErrBadToken
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	doc, ok := f.tokens[token]
	if !ok {
		return doc, library.ErrNotFound
	}
	return doc, nil
}

func (f *fakeLibrary) Playing(_ context.Context, account, id string) (library.Mount, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	stem, ext := library.CutFormExt(id)
	if rec, ok := f.recordings[account+"/"+id]; ok {
		return library.Mount{Recording: &rec}, "", nil
	}
	if rec, ok := f.recordings[account+"/"+stem]; ok {
		return library.Mount{Recording: &rec}, ext, nil
	}
	if doc, ok := f.docs[account+"/"+stem]; ok && ext != "" {
		return library.Mount{Doc: &doc}, ext, nil
	}
	return library.Mount{}, "", library.ErrNotFound
}

func (f *fakeLibrary) Recording(_ context.Context, id string) (library.Recording, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.recordings[id], nil
}

func (f *fakeLibrary) OpenRecording(ctx context.Context, id string, from library.From) (
	*blobstore.Reader, library.Recording, error,
) {
	f.mu.Lock()
	defer f.mu.Unlock()
	rec := f.recordings[id]
	rd := f.blobs[rec.Blob].reader(ctx)
	rd.SetFollow(true)
	if from == library.FromNow {
		if _, err := rd.Seek(0, io.SeekEnd); err != nil {
			return nil, rec, err
		}
	}
	rec.Size = rd.Info().Size // as far as it is there
	return rd, rec, nil
}
