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
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"carillon/audio"
	"carillon/blobstore"
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
	if first.SHA256 != hex.EncodeToString(sum[:]) || first.Size != int64(len(wav)) ||
		first.ContentType != "audio/x-wav" || first.DurationMS != 500 || first.Source != sourceUpload {
		t.Errorf("document is %+v", first)
	}
	if got, err := l.Get(ctx, "acme", "a/b", Fresh); err != nil || !cmp.Equal(got, first) {
		t.Errorf("get: %v\n%s", err, cmp.Diff(first, got))
	}
	if !bytes.Equal(readItem(t, l, first), wav) {
		t.Error("bytes came back changed")
	}

	second, created, err := l.Put(ctx, "acme", "a/b", bytes.NewReader(mp3), PutOptions{Length: -1})
	if err != nil || created {
		t.Fatalf("replace: created %v, %v", created, err)
	}
	if second.Revision <= first.Revision || second.Name != "N" || second.Metadata["k"] != "v" ||
		!second.Created.Equal(first.Created) || second.ContentType != "audio/mpeg" ||
		second.DurationMS != 5000*mp3FrameMS {
		t.Errorf("document is %+v", second)
	}
	if want := []string{refKeyOf(&second)}; !slices.Equal(refs(t, local), want) {
		t.Errorf("references are %q, want %q", refs(t, local), want)
	}
	if !bytes.Equal(readItem(t, l, second), mp3) {
		t.Error("bytes came back changed")
	}

	wantErr(t, "delete with the old tag", l.Delete(ctx, "acme", "a/b", first.ETag()), ErrPrecondition)
	if err := l.Delete(ctx, "acme", "a/b", second.ETag()); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "delete again", l.Delete(ctx, "acme", "a/b", ""), ErrNotFound)
	_, err = l.Get(ctx, "acme", "a/b", Linearizable)
	wantErr(t, "get what was deleted", err, ErrNotFound)
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
	local := openLocal(t, t.TempDir())
	cfg := testConfig()
	cfg.UploadBytesMax = 1 << 20
	l := openLibrary(t, cfg, testDeps(local))
	mp3 := mp3Sound(4000) // 576,000 bytes
	halfway := io.MultiReader(bytes.NewReader(mp3[:300_000]), iotest.ErrReader(io.ErrUnexpectedEOF))
	for _, c := range []struct {
		name string
		id   string
		body io.Reader
		opts PutOptions
		want error
	}{
		{"dot dot", "../x", bytes.NewReader(mp3), PutOptions{Length: -1}, ErrBadName},
		{"NUL", "a\x00b", bytes.NewReader(mp3), PutOptions{Length: -1}, ErrBadName},
		{"half a body", "x", halfway, PutOptions{Length: int64(len(mp3))}, ErrIncomplete},
		{"shorter than announced", "x", bytes.NewReader(mp3[:200]), PutOptions{Length: 400}, ErrIncomplete},
		{"nothing", "x", strings.NewReader(""), PutOptions{Length: -1}, ErrUnsupportedMedia},
		{"text", "x", strings.NewReader("hello"), PutOptions{Length: 5}, ErrUnsupportedMedia},
		{"says html", "x", bytes.NewReader(mp3), PutOptions{Length: -1, ContentType: "text/html; charset=x"}, ErrUnsupportedMedia},
		{"says json", "x", bytes.NewReader(mp3), PutOptions{Length: -1, ContentType: "application/json"}, ErrUnsupportedMedia},
		{"announces too much", "x", iotest.ErrReader(errors.New("read")), PutOptions{Length: 1<<20 + 1}, ErrTooLarge},
		{"is too much", "x", bytes.NewReader(mp3Sound(8000)), PutOptions{Length: -1}, ErrTooLarge},
		{"the door's limit", "x", iotest.ErrReader(&http.MaxBytesError{Limit: 1}), PutOptions{Length: -1}, ErrTooLarge},
		{"long name", "x", bytes.NewReader(mp3), PutOptions{Length: -1, Name: strings.Repeat("n", TextBytesMax+1)}, ErrBadRequest},
		{"bad language", "x", bytes.NewReader(mp3), PutOptions{Length: -1, Language: "en us"}, ErrBadRequest},
		{"prompt with a slash", "x", bytes.NewReader(mp3), PutOptions{Length: -1, Prompt: "a/b"}, ErrBadRequest},
		{
			"much metadata", "x", bytes.NewReader(mp3),
			PutOptions{Length: -1, Metadata: map[string]string{"k": strings.Repeat("v", MetadataBytesMax)}}, ErrBadRequest,
		},
		{"nothing to match", "x", bytes.NewReader(mp3), PutOptions{Length: -1, IfMatch: "*"}, ErrPrecondition},
	} {
		_, _, err := l.Put(t.Context(), "acme", c.id, c.body, c.opts)
		wantErr(t, c.name, err, c.want)
	}
	_, err := l.Get(t.Context(), "acme", "x", Fresh)
	wantErr(t, "get", err, ErrNotFound)
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
	wantErr(t, "text", err, ErrUnsupportedMedia)
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
	wantErr(t, "put", err, context.Canceled)
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
			wantErr(t, "loser", err, ErrPrecondition)
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
			if _, _, err := l.Put(t.Context(), "acme", "x", bytes.NewReader(mp3Sound(20)), PutOptions{Length: -1}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if left := refs(t, local); len(left) != 1 {
		t.Errorf("references are %q", left)
	}
}

// TestUpdate: the editable fields change, the rest stays, and the index of
// prompts follows.
func TestUpdate(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	ctx := t.Context()
	before := put(t, l, "acme", "x", mp3Sound(10), PutOptions{
		Prompt: "hello", Language: "EN-us", Metadata: map[string]string{"a": "1", "b": "2"},
	})
	if before.Language != "en-us" {
		t.Errorf("language is %q", before.Language)
	}
	name, language := "New", "de-DE"
	after, err := l.Update(ctx, "acme", "x", Patch{
		Name: &name, Language: &language, Metadata: map[string]string{"a": "", "c": "3"}, IfMatch: before.ETag(),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := before
	want.Name, want.Language, want.Revision, want.Modified = "New", "de-de", after.Revision, after.Modified
	want.Metadata = map[string]string{"b": "2", "c": "3"}
	if diff := cmp.Diff(want, after); diff != "" || after.Revision <= before.Revision {
		t.Errorf("document after the update:\n%s", diff)
	}
	if got := keys(t, local, promptPrefix); !slices.Equal(got, []string{promptKey(&after)}) {
		t.Errorf("prompt index is %q", got)
	}
	if before.Metadata["a"] != "1" {
		t.Error("the update changed the caller's document")
	}
	long := strings.Repeat("x", TextBytesMax+1)
	_, err = l.Update(ctx, "acme", "x", Patch{Name: &long})
	wantErr(t, "long name", err, ErrBadRequest)
	_, err = l.Update(ctx, "acme", "y", Patch{Name: &name})
	wantErr(t, "unknown item", err, ErrNotFound)
	_, err = l.Update(ctx, "acme", "x", Patch{IfMatch: `"other"`})
	wantErr(t, "other tag", err, ErrPrecondition)
}

// TestList pages through an account and sees nothing of its neighbours.
func TestList(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	var want []string
	for i := range 25 {
		id := fmt.Sprintf("moh/%02d.mp3", i)
		want = append(want, id)
		put(t, l, "acme", id, mp3Sound(3), PutOptions{Language: []string{"en", "de"}[i%2], Prompt: "p"})
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
	page, err := l.List(t.Context(), "acme", ListQuery{Language: "DE", Prompt: "p"})
	if err != nil || len(page.Items) != 12 {
		t.Errorf("german prompts: %d, %v", len(page.Items), err)
	}
	_, err = l.List(t.Context(), "acme", ListQuery{Limit: PageLimitMax + 1})
	wantErr(t, "limit", err, ErrBadRequest)
	_, err = l.List(t.Context(), "..", ListQuery{})
	wantErr(t, "account", err, ErrBadName)
}

// TestItemsAreAMap drives the library and a map side by side with random
// writes, edits and deletions.
func TestItemsAreAMap(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		account := fmt.Sprintf("run%d", run)
		model := map[string]Document{}
		ids := rapid.SampledFrom([]string{"a", "a/b", "b", "é"})
		rt.Repeat(map[string]func(*rapid.T){
			"put": func(rt *rapid.T) {
				id := ids.Draw(rt, "id")
				opts := PutOptions{Length: -1}
				old, there := model[id]
				switch rapid.IntRange(0, 2).Draw(rt, "condition") {
				case 1:
					opts.IfNoneMatch = "*"
				case 2:
					opts.IfMatch = `"x", ` + old.ETag()
				}
				d, created, err := l.Put(rt.Context(), account, id, bytes.NewReader(mp3Sound(3)), opts)
				if allowed := (opts.IfNoneMatch == "" || !there) && (opts.IfMatch == "" || there); !allowed {
					if !errors.Is(err, ErrPrecondition) {
						rt.Fatalf("put: %v, want ErrPrecondition", err)
					}
					return
				}
				if err != nil || created == there || d.Revision <= old.Revision {
					rt.Fatalf("put: created %v, revision %d after %d, %v", created, d.Revision, old.Revision, err)
				}
				model[id] = d
			},
			"delete": func(rt *rapid.T) {
				id := ids.Draw(rt, "id")
				err := l.Delete(rt.Context(), account, id, "")
				if _, there := model[id]; there != (err == nil) || err != nil && !errors.Is(err, ErrNotFound) {
					rt.Fatalf("delete, there: %v, %v", there, err)
				}
				delete(model, id)
			},
			"": func(rt *rapid.T) {
				page, err := l.List(rt.Context(), account, ListQuery{})
				if err != nil || len(page.Items) != len(model) {
					rt.Fatalf("%d items, want %d, %v", len(page.Items), len(model), err)
				}
				for _, d := range page.Items {
					got, err := l.Get(rt.Context(), account, d.ID, Local)
					if err != nil || !cmp.Equal(model[d.ID], d) || !cmp.Equal(got, d) {
						rt.Fatalf("%s: %v\n%s", d.ID, err, cmp.Diff(model[d.ID], d))
					}
				}
			},
		})
		for id := range model {
			if err := l.Delete(rt.Context(), account, id, ""); err != nil {
				rt.Fatal(err)
			}
		}
	})
	if left := refs(t, local); len(left) != 0 {
		t.Errorf("references are left: %q", left)
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
