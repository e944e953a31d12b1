package library

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"carillon/audio"
	"carillon/blobstore"
	"carillon/library/libtest"
)

// TestPutGetDelete follows one item through its life: every write is a new
// revision, what it replaces loses its reference, and the probe decides on the
// type.
func TestPutGetDelete(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	ctx := t.Context()
	wav, mp3 := wavSound(4000), mp3Sound(5000) // the second is several chunks long

	first := put(t, l, "acme", "a/b", wav, PutOptions{
		ContentType: "application/octet-stream", Name: "N", Metadata: map[string]string{"k": "v"},
	})
	sum := sha256.Sum256(wav)
	libtest.Equal(t, "sha256", first.SHA256, hex.EncodeToString(sum[:]))
	libtest.Equal(t, "size", first.Size, int64(len(wav)))
	libtest.Equal(t, "type", first.ContentType, "audio/x-wav")
	libtest.Equal(t, "duration", first.DurationMS, 500)
	libtest.Equal(t, "source", first.Source, sourceUpload)
	if diff := cmp.Diff(first, libtest.Must[Document](t)(l.Get(ctx, "acme", "a/b", Fresh))); diff != "" {
		t.Errorf("get gives another document:\n%s", diff)
	}
	if !bytes.Equal(readItem(t, l, first), wav) {
		t.Error("bytes came back changed")
	}

	second := put(t, l, "acme", "a/b", mp3, PutOptions{})
	if second.Revision <= first.Revision {
		t.Errorf("revision %d follows %d", second.Revision, first.Revision)
	}
	libtest.Equal(t, "name that was left open", second.Name, "N")
	libtest.Equal(t, "metadata that were left open", second.Metadata["k"], "v")
	libtest.Equal(t, "time of creation", second.Created, first.Created)
	libtest.Equal(t, "type", second.ContentType, "audio/mpeg")
	libtest.Equal(t, "duration", second.DurationMS, 5000*mp3FrameMS)
	if want := []string{refKeyOf(&second)}; !slices.Equal(refs(t, local), want) {
		t.Errorf("references are %q, want %q", refs(t, local), want)
	}
	if !bytes.Equal(readItem(t, l, second), mp3) {
		t.Error("bytes came back changed")
	}

	libtest.WantErr(t, "delete with the old tag", l.Delete(ctx, "acme", "a/b", first.ETag()), ErrPrecondition)
	libtest.WantErr(t, "delete", l.Delete(ctx, "acme", "a/b", second.ETag()), nil)
	libtest.WantErr(t, "delete again", l.Delete(ctx, "acme", "a/b", ""), ErrNotFound)
	_, err := l.Get(ctx, "acme", "a/b", Linearizable)
	libtest.WantErr(t, "get what was deleted", err, ErrNotFound)
	if left := refs(t, local); len(left) != 0 {
		t.Errorf("references are left: %q", left)
	}
}

// TestPutAgain: the same bytes are still a new revision.
func TestPutAgain(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	sound := mp3Sound(10)
	first, second := put(t, l, "a", "x", sound, PutOptions{}), put(t, l, "a", "x", sound, PutOptions{})
	if second.Revision <= first.Revision || second.ETag() != first.ETag() {
		t.Errorf("revisions %d, %d; tags %s, %s", first.Revision, second.Revision, first.ETag(), second.ETag())
	}
}

// TestPutRefused: each bad upload has its error, and leaves neither a document
// nor a blob nor a reference.
func TestPutRefused(t *testing.T) {
	t.Parallel()
	local := libtest.OpenStore(t, t.TempDir())
	cfg := testConfig()
	cfg.UploadBytesMax = 1 << 20
	l := openLibrary(t, cfg, testDeps(local))
	mp3 := mp3Sound(4000) // 576,000 bytes
	halfway := io.MultiReader(bytes.NewReader(mp3[:300_000]), iotest.ErrReader(io.ErrUnexpectedEOF))
	whole := func() io.Reader { return bytes.NewReader(mp3) }
	fails := iotest.ErrReader
	for _, c := range []struct {
		name string
		id   string
		body io.Reader
		opts PutOptions
		want error
	}{
		{"parent", "../x", whole(), PutOptions{Length: -1}, ErrBadName},
		{"NUL", "a\x00b", whole(), PutOptions{Length: -1}, ErrBadName},
		{"half a body", "x", halfway, PutOptions{Length: int64(len(mp3))}, ErrIncomplete},
		{"short", "x", bytes.NewReader(mp3[:200]), PutOptions{Length: 400}, ErrIncomplete},
		{"nothing", "x", strings.NewReader(""), PutOptions{Length: -1}, ErrUnsupportedMedia},
		{"text", "x", strings.NewReader("hello"), PutOptions{Length: 5}, ErrUnsupportedMedia},
		{"html", "x", whole(), PutOptions{Length: -1, ContentType: "text/html; a=b"}, ErrUnsupportedMedia},
		{"json", "x", whole(), PutOptions{Length: -1, ContentType: "application/json"}, ErrUnsupportedMedia},
		{"says too much", "x", fails(errors.New("read")), PutOptions{Length: 1<<20 + 1}, ErrTooLarge},
		{"is too much", "x", bytes.NewReader(mp3Sound(8000)), PutOptions{Length: -1}, ErrTooLarge},
		{"door's limit", "x", fails(&http.MaxBytesError{Limit: 1}), PutOptions{Length: -1}, ErrTooLarge},
		{"name", "x", whole(), PutOptions{Length: -1, Name: strings.Repeat("n", 600)}, ErrBadRequest},
		{"language", "x", whole(), PutOptions{Length: -1, Language: "en us"}, ErrBadRequest},
		{"prompt", "x", whole(), PutOptions{Length: -1, Prompt: "a/b"}, ErrBadRequest},
		{"metadata", "x", whole(), PutOptions{Length: -1, Metadata: map[string]string{"": "v"}}, ErrBadRequest},
		{"nothing to match", "x", whole(), PutOptions{Length: -1, IfMatch: "*"}, ErrPrecondition},
	} {
		_, _, err := l.Put(t.Context(), "acme", c.id, c.body, c.opts)
		libtest.WantErr(t, c.name, err, c.want)
	}
	_, err := l.Get(t.Context(), "acme", "x", Fresh)
	libtest.WantErr(t, "get", err, ErrNotFound)
	if left := refs(t, local); len(left) != 0 {
		t.Errorf("references are left: %q", left)
	}
	if left := blobs(t, local); len(left) != 0 {
		t.Errorf("blobs are left: %v", left)
	}
}

// TestPutRefusesEarly: of a gigabyte of text only a chunk is read, and nothing
// is stored.
func TestPutRefusesEarly(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	body := &countingReader{left: 1 << 30, fill: 'x'}
	_, _, err := l.Put(t.Context(), "acme", "x", body, PutOptions{Length: 1 << 30})
	libtest.WantErr(t, "text", err, ErrUnsupportedMedia)
	if body.read > blobstore.ChunkBytesMax {
		t.Errorf("%d bytes were read before it was refused", body.read)
	}
	if left := blobs(t, local); len(left) != 0 {
		t.Errorf("blobs are left: %v", left)
	}
}

// TestPutCover: a long picture in front of the sound does not make it text.
func TestPutCover(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	const cover = 200_000
	tag := append([]byte("ID3\x04\x00\x00"), cover>>21&0x7f, cover>>14&0x7f, cover>>7&0x7f, cover&0x7f)
	sound := append(append(tag, make([]byte, cover)...), mp3Sound(100)...)
	if d := put(t, l, "acme", "song.mp3", sound, PutOptions{}); d.Audio.Frames != 100 {
		t.Errorf("audio is %+v", d.Audio)
	}
}

// TestPutCanceled: a client that hangs up leaves nothing.
func TestPutCanceled(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	ctx, cancel := context.WithCancel(t.Context())
	body := io.MultiReader(bytes.NewReader(mp3Sound(5000)), readerFunc(func([]byte) (int, error) {
		cancel()
		return 0, errors.New("connection reset")
	}))
	_, _, err := l.Put(ctx, "acme", "x", body, PutOptions{Length: -1})
	libtest.WantErr(t, "put", err, context.Canceled)
	if left := blobs(t, local); len(left) != 0 {
		t.Errorf("blobs are left: %v", left)
	}
}

// TestConcurrentCreate: of many who create one item with If-None-Match: * one
// wins, and its sound alone is referred to.
func TestConcurrentCreate(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	const writers = 12
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			_, _, errs[i] = l.Put(t.Context(), "acme", "x", bytes.NewReader(mp3Sound(20)),
				PutOptions{Length: -1, IfNoneMatch: "*"})
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			libtest.WantErr(t, "loser", err, ErrPrecondition)
		}
	}
	d, err := l.Get(t.Context(), "acme", "x", Fresh)
	if err != nil || won != 1 || !slices.Equal(refs(t, local), []string{refKeyOf(&d)}) {
		t.Errorf("%d writers won, %v, references %q", won, err, refs(t, local))
	}
}

// TestConcurrentReplace: unconditional writers of one item all succeed, and
// one reference remains.
func TestConcurrentReplace(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			_, _, err := l.Put(t.Context(), "acme", "x", bytes.NewReader(mp3Sound(20)), PutOptions{Length: -1})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if left := refs(t, local); len(left) != 1 {
		t.Errorf("references are %q", left)
	}
}

// TestConcurrentEdits: of many who change the fields of what they have read one
// wins, although the sound stays as it is; by the sound's tag all do. Then
// everything else that takes conditions knows the revision, also by a second
// name.
func TestConcurrentEdits(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	ctx := t.Context()
	read := put(t, l, "acme", "x", mp3Sound(20), PutOptions{})
	libtest.Must[Document](t)(l.Alias(ctx, AliasRequest{
		Alias: ItemName{"acme", "y"}, Of: ItemName{"acme", "x"},
	}))
	edit := func(tag string) (won int) {
		errs := make([]error, 8)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() {
				_, errs[i] = l.Update(ctx, "acme", "y", Patch{
					Metadata: map[string]string{strconv.Itoa(i): "x"}, IfMatch: tag,
				})
			})
		}
		wg.Wait()
		for _, err := range errs {
			if err == nil {
				won++
			} else {
				libtest.WantErr(t, "loser", err, ErrPrecondition)
			}
		}
		return won
	}
	libtest.Equal(t, "writers that won by the revision", edit(read.RevisionTag()), 1)
	libtest.Equal(t, "writers that won by the sound", edit(read.ETag()), 8)

	now := libtest.Must[Document](t)(l.Get(ctx, "acme", "x", Fresh))
	libtest.Equal(t, "fields", len(now.Metadata), 8)
	for what, do := range map[string]func(tag string) error{
		"put": func(tag string) error {
			_, _, err := l.Put(ctx, "acme", "x", bytes.NewReader(mp3Sound(2)), PutOptions{Length: -1, IfMatch: tag})
			return err
		},
		"delete": func(tag string) error { return l.Delete(ctx, "acme", "x", tag) },
		"copy": func(tag string) error {
			_, err := l.Copy(ctx, CopyRequest{From: ItemName{"acme", "y"}, To: ItemName{"acme", "z"}, IfMatch: tag})
			return err
		},
	} {
		libtest.WantErr(t, what+" by an old revision", do(read.RevisionTag()), ErrPrecondition)
	}
	_, err := l.Copy(ctx, CopyRequest{
		From: ItemName{"acme", "y"}, To: ItemName{"acme", "z"}, IfMatch: now.RevisionTag(),
	})
	libtest.WantErr(t, "copy", err, nil)
	_, _, err = l.Put(ctx, "acme", "y", bytes.NewReader(mp3Sound(2)), PutOptions{
		Length: -1, IfNoneMatch: now.RevisionTag(),
	})
	libtest.WantErr(t, "put unless it is this", err, ErrPrecondition)
	libtest.WantErr(t, "delete", l.Delete(ctx, "acme", "x", now.RevisionTag()), nil)
}

// TestUpdate: the editable fields change, the rest stays, and the index of
// prompts follows.
func TestUpdate(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	ctx := t.Context()
	before := put(t, l, "acme", "x", mp3Sound(10), PutOptions{
		Language: "EN-us", Metadata: map[string]string{"a": "1", "b": "2"},
	})
	if before.Language != "en-us" {
		t.Errorf("language is %q", before.Language)
	}
	name, language, prompt := "New", "de-DE", "hello"
	after, err := l.Update(ctx, "acme", "x", Patch{
		Name: &name, Language: &language, Prompt: &prompt, Metadata: map[string]string{"a": "", "c": "3"},
		IfMatch: before.ETag(),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := before
	want.Name, want.Language, want.Revision, want.Modified = "New", "de-de", after.Revision, after.Modified
	want.Prompt, want.Metadata = "hello", map[string]string{"b": "2", "c": "3"}
	if diff := cmp.Diff(want, after); diff != "" || after.Revision <= before.Revision {
		t.Errorf("document after the update:\n%s", diff)
	}
	if got := libtest.Keys(t, local, promptPrefix); !slices.Equal(got, []string{promptKey(&after)}) {
		t.Errorf("prompt index is %q", got)
	}
	if before.Metadata["a"] != "1" {
		t.Error("the update changed the caller's document")
	}
	long := strings.Repeat("x", TextBytesMax+1)
	_, err = l.Update(ctx, "acme", "x", Patch{Name: &long})
	libtest.WantErr(t, "long name", err, ErrBadRequest)
	_, err = l.Update(ctx, "acme", "y", Patch{Name: &name})
	libtest.WantErr(t, "unknown item", err, ErrNotFound)
	_, err = l.Update(ctx, "acme", "x", Patch{IfMatch: `"other"`})
	libtest.WantErr(t, "other tag", err, ErrPrecondition)
}

// TestList pages through an account and sees nothing of its neighbours.
func TestList(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	var want []string
	for i := range 25 {
		id := fmt.Sprintf("moh/%02d.mp3", i)
		want = append(want, id)
		put(t, l, "acme", id, mp3Sound(3), PutOptions{Language: []string{"en", "de"}[i%2], Name: "Song P"})
	}
	put(t, l, "acme", "other", mp3Sound(3), PutOptions{})
	put(t, l, "acme-2", "moh/x", mp3Sound(3), PutOptions{})
	put(t, l, "acm", "moh/y", mp3Sound(3), PutOptions{})

	var got []string
	q := ListQuery{Prefix: "moh/", Limit: 10}
	for pages := 1; ; pages++ {
		page, err := l.List(t.Context(), "acme", q)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page.Items {
			got = append(got, d.ID)
		}
		if page.Next == "" {
			if pages != 3 {
				t.Errorf("%d pages, want 3", pages)
			}
			break
		}
		q.After = page.Next
	}
	if !slices.Equal(got, want) {
		t.Errorf("listed %q", got)
	}
	page, err := l.List(t.Context(), "acme", ListQuery{Language: "DE", Name: "g p", Class: ClassUpload})
	if err != nil || len(page.Items) != 12 {
		t.Errorf("german songs: %d, %v", len(page.Items), err)
	}
	_, err = l.List(t.Context(), "acme", ListQuery{Limit: PageLimitMax + 1})
	libtest.WantErr(t, "limit", err, ErrBadRequest)
	_, err = l.List(t.Context(), "..", ListQuery{})
	libtest.WantErr(t, "account", err, ErrBadName)
}

// TestItemsAreAMap drives the library and a map side by side with random
// writes, edits and deletions.
func TestItemsAreAMap(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		m := itemModel{l, fmt.Sprintf("run%d", run), map[string]Document{}}
		rt.Repeat(map[string]func(*rapid.T){"put": m.put, "delete": m.delete, "": m.check})
		for id := range m.items {
			if err := l.Delete(rt.Context(), m.account, id, ""); err != nil {
				rt.Fatal(err)
			}
		}
	})
	if left := refs(t, local); len(left) != 0 {
		t.Errorf("references are left: %q", left)
	}
}

type itemModel struct {
	l       *Library
	account string
	items   map[string]Document
}

func (m *itemModel) id(rt *rapid.T) string {
	return rapid.SampledFrom([]string{"a", "a/b", "b", "é"}).Draw(rt, "id")
}

func (m *itemModel) put(rt *rapid.T) {
	id := m.id(rt)
	old, there := m.items[id]
	opts, allowed := PutOptions{Length: -1}, true
	switch rapid.IntRange(0, 2).Draw(rt, "condition") {
	case 1:
		opts.IfNoneMatch, allowed = "*", !there
	case 2:
		opts.IfMatch, allowed = `"x", `+old.ETag(), there
	}
	d, created, err := m.l.Put(rt.Context(), m.account, id, bytes.NewReader(mp3Sound(3)), opts)
	switch {
	case !allowed:
		if !errors.Is(err, ErrPrecondition) {
			rt.Fatalf("put: %v, want ErrPrecondition", err)
		}
	case err != nil || created == there || d.Revision <= old.Revision:
		rt.Fatalf("put: created %v, revision %d after %d, %v", created, d.Revision, old.Revision, err)
	default:
		m.items[id] = d
	}
}

func (m *itemModel) delete(rt *rapid.T) {
	id := m.id(rt)
	var want error
	if _, there := m.items[id]; !there {
		want = ErrNotFound
	}
	if err := m.l.Delete(rt.Context(), m.account, id, ""); !errors.Is(err, want) {
		rt.Fatalf("delete: %v, want %v", err, want)
	}
	delete(m.items, id)
}

func (m *itemModel) check(rt *rapid.T) {
	page, err := m.l.List(rt.Context(), m.account, ListQuery{})
	if err != nil || len(page.Items) != len(m.items) {
		rt.Fatalf("%d items, want %d, %v", len(page.Items), len(m.items), err)
	}
	for _, d := range page.Items {
		got, err := m.l.Get(rt.Context(), m.account, d.ID, Local)
		if err != nil || !cmp.Equal(m.items[d.ID], d) || !cmp.Equal(got, d) {
			rt.Fatalf("%s: %v\n%s", d.ID, err, cmp.Diff(m.items[d.ID], d))
		}
	}
}

// TestProbeDecides: the type of every format is the probe's.
func TestProbeDecides(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	d := put(t, l, "a", "x.mp3", wavSound(100), PutOptions{ContentType: "audio/mpeg"})
	if d.ContentType != audio.FormatWAV.ContentType() {
		t.Errorf("type is %s", d.ContentType)
	}
}

type countingReader struct {
	left, read int64
	fill       byte
}

func (r *countingReader) Read(p []byte) (int, error) {
	n := min(int64(len(p)), r.left)
	if n == 0 {
		return 0, io.EOF
	}
	for i := range p[:n] {
		p[i] = r.fill
	}
	r.left -= n
	r.read += n
	return int(n), nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func blobs(t *testing.T, local *blobstore.Local) []blobstore.ID {
	t.Helper()
	var found []blobstore.ID
	for info, err := range local.Blobs.Blobs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, info.ID)
	}
	return found
}
