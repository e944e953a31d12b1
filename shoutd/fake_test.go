package shoutd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"carillon/audio"
	"carillon/internal/ring"
	"carillon/library"
	"carillon/library/station"
)

// fakeLibrary keeps everything in memory and knows one login, foo:bar.
type fakeLibrary struct {
	mu       sync.Mutex
	items    map[string]fakeItem
	live     map[string]*fakeSession // by recording id
	used     map[string]bool         // mounts whose ticket was used
	claimErr error
	writeErr error // of every session, after writeMax bytes
	writeMax int
	toss     bool // sessions keep nothing
	claims   []library.SourceRequest
	claimed  chan *fakeSession
	stations map[string]*ring.Ring // continuous streams
	tuned    atomic.Int32          // listeners of them
}

type fakeItem struct {
	doc  library.Document
	body []byte
}

func newFakeLibrary() *fakeLibrary {
	return &fakeLibrary{
		items:   make(map[string]fakeItem),
		live:    make(map[string]*fakeSession),
		used:    make(map[string]bool),
		claimed: make(chan *fakeSession, 4096),
	}
}

// put stores an item of the account acme.
func (f *fakeLibrary) put(id string, format audio.Format, body []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	const account = "acme"
	f.items[account+"/"+id] = fakeItem{body: body, doc: library.Document{
		Account: account, ID: id, Name: "It's " + id, Size: int64(len(body)), SHA256: "00",
		ContentType: format.ContentType(), Audio: audio.Info{Format: format},
	}}
}

func (f *fakeLibrary) Claim(ctx context.Context, r library.SourceRequest) (Session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case f.claimErr != nil:
		return nil, f.claimErr
	case r.PasswordOnly && r.Password != "foo:bar" && r.Password != "bar",
		!r.PasswordOnly && (r.User != "foo" || r.Password != "bar"):
		return nil, library.ErrUnauthorized
	case f.used[r.Mount]:
		return nil, library.ErrTicketUsed
	}
	f.claims = append(f.claims, r)
	f.used[r.Mount] = true
	s := newFakeSession(r.Mount, r)
	s.writeErr, s.writeMax, s.toss = f.writeErr, f.writeMax, f.toss
	f.live[s.recording.ID] = s
	f.claimed <- s
	return s, nil
}

func (f *fakeLibrary) MayListen(_ context.Context, w library.Listening) error {
	if !w.Network {
		return library.ErrForbidden
	}
	return nil
}

// LiveGain knows no accounts.
func (f *fakeLibrary) LiveGain(_ context.Context, _ string, form library.Form) (float64, error) {
	return form.GainDB, nil
}

// Tune plays what the test feeds.
func (f *fakeLibrary) Tune(_ context.Context, account, id string, _ library.Form) (station.Tuned, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.stations[account+"/"+id]
	if r == nil {
		return station.Tuned{}, library.ErrNotFound
	}
	_, to, _ := r.Span()
	f.tuned.Add(1)
	return station.Tuned{Ring: r, Offset: to, ByteRate: 2000, Leave: func() { f.tuned.Add(-1) }}, nil
}

func (f *fakeLibrary) Recording(_ context.Context, id string) (library.Recording, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s, ok := f.live[id]; ok {
		return s.Recording(), nil
	}
	return library.Recording{}, library.ErrNotFound
}

func (f *fakeLibrary) Playing(_ context.Context, account, id string) (library.Mount, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if it, ok := f.items[account+"/"+id]; ok {
		return library.Mount{Doc: &it.doc}, "", nil
	}
	if s, ok := f.live["r-"+account+"/"+id]; ok {
		rec := s.Recording()
		return library.Mount{Recording: &rec}, "", nil
	}
	if f.stations[account+"/"+id] != nil {
		return library.Mount{Playlist: &library.Playlist{Name: "Hold"}}, "", nil
	}
	return library.Mount{}, "", fmt.Errorf("mount %s/%s: %w", account, id, library.ErrNotFound)
}

// Render knows MP3, and nothing that is made of other sound.
func (f *fakeLibrary) Render(
	_ context.Context, d *library.Document, form library.Form,
) (library.Rendition, error) {
	if !form.AsStored(&d.Audio) {
		return library.Rendition{}, library.ErrNoForm
	}
	return library.Rendition{Size: d.Size, SHA256: d.SHA256, ContentType: d.ContentType}, nil
}

func (f *fakeLibrary) RenderRecording(
	context.Context, *library.Recording, library.Form,
) (library.Rendition, error) {
	return library.Rendition{}, library.ErrNoForm
}

func (f *fakeLibrary) OpenRendition(_ context.Context, r library.Rendition) (Blob, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, it := range f.items {
		if it.doc.SHA256 == r.SHA256 {
			return stillBlob{bytes.NewReader(it.body)}, nil
		}
	}
	return nil, library.ErrNotFound
}

func (f *fakeLibrary) OpenRecording(
	ctx context.Context, id string, from library.From,
) (Blob, library.Recording, error) {
	f.mu.Lock()
	s, ok := f.live[id]
	f.mu.Unlock()
	if !ok {
		return nil, library.Recording{}, library.ErrNotFound
	}
	r := s.follow(ctx)
	if from == library.FromNow {
		r.off = len(s.content())
	}
	return r, s.Recording(), nil
}

// stillBlob is a sealed blob.
type stillBlob struct{ *bytes.Reader }

func (stillBlob) Close() error { return nil }

// fakeSession is a growing byte slice that can be followed.
type fakeSession struct {
	recording library.Recording
	request   library.SourceRequest
	writeErr  error
	writeMax  int
	done      chan struct{}

	mu     sync.Mutex
	cond   *sync.Cond
	data   []byte
	n      int
	toss   bool // count the bytes, do not keep them
	ended  bool
	ending library.Ending
	sealed chan struct{}
	titles []string
	icy    map[string]string // that came late
}

func newFakeSession(mount string, r library.SourceRequest) *fakeSession {
	s := &fakeSession{
		request: r,
		recording: library.Recording{
			ID: "r-" + mount, Name: mount, ContentType: r.ContentType, ICY: r.ICY,
		},
		done:   make(chan struct{}),
		sealed: make(chan struct{}),
	}
	s.cond = sync.NewCond(&s.mu)
	return s
}

func (s *fakeSession) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writeErr != nil && len(s.data)+len(p) > s.writeMax {
		return 0, s.writeErr
	}
	s.n += len(p)
	if !s.toss {
		s.data = append(s.data, p...)
	}
	s.cond.Broadcast()
	return len(p), nil
}

func (s *fakeSession) Recording() library.Recording {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.recording
	rec.Size, rec.State = int64(len(s.data)), library.StateLive
	if s.ended {
		rec.State = library.StateSealed
	}
	return rec
}

func (s *fakeSession) Done() <-chan struct{} { return s.done }

func (s *fakeSession) SetTitle(title string, icy map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if title != "" {
		s.titles = append(s.titles, title)
	}
	if icy != nil {
		s.icy = icy
	}
}

// said is what the source has said of itself after it was let in.
func (s *fakeSession) said() (titles []string, icy map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.titles, s.icy
}

func (s *fakeSession) Close(_ context.Context, how library.Ending) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.ended, s.ending = true, how
		close(s.sealed)
		s.cond.Broadcast()
	}
	return nil
}

func (s *fakeSession) content() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.data)
}

func (s *fakeSession) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// follow reads the session as a blob that is not sealed yet.
func (s *fakeSession) follow(ctx context.Context) *fakeReader {
	r := &fakeReader{s: s, ctx: ctx}
	r.stop = context.AfterFunc(ctx, s.wake)
	return r
}

func (s *fakeSession) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cond.Broadcast()
}

type fakeReader struct {
	s    *fakeSession
	ctx  context.Context
	stop func() bool
	off  int
}

func (r *fakeReader) Read(p []byte) (int, error) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	for r.off == len(r.s.data) {
		if err := r.ctx.Err(); err != nil {
			return 0, err
		}
		if r.s.ended {
			return 0, io.EOF
		}
		r.s.cond.Wait()
	}
	n := copy(p, r.s.data[r.off:])
	r.off += n
	return n, nil
}

// WriteTo follows like blobstore.Reader, whose offset is behind what it gave
// away when the writer takes less.
func (r *fakeReader) WriteTo(w io.Writer) (int64, error) {
	var written int64
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		if errors.Is(err, io.EOF) {
			return written, nil
		}
		if err != nil {
			return written, err
		}
		m, err := w.Write(buf[:n])
		written += int64(m)
		if err != nil {
			return written, err
		}
	}
}

func (r *fakeReader) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekCurrent {
		offset += int64(r.off)
	}
	r.off = int(offset)
	return offset, nil
}

func (r *fakeReader) Close() error {
	r.stop()
	return nil
}
