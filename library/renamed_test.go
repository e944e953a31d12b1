package library

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"carillon/blobstore"
	"carillon/library/field"
	"carillon/library/libtest"
)

// rename gives acme/{from} the name acme/{to}, replacing what is there.
func rename(t *testing.T, l *Library, from, to string) error {
	t.Helper()
	_, err := l.Rename(context.WithValue(t.Context(), byRename{}, true), CopyRequest{
		From: ItemName{"acme", from}, To: ItemName{"acme", to}, Overwrite: true,
	})
	return err
}

func alias(t *testing.T, l *Library, name, of ItemName) {
	t.Helper()
	libtest.Must[Document](t)(l.Alias(t.Context(), AliasRequest{Alias: name, Of: of, Overwrite: true}))
}

// TestRenameTakesNamesAlong: whatever led to the item by its name leads to it
// afterwards, and what led elsewhere stays.
func TestRenameTakesNamesAlong(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	ctx := t.Context()
	d := put(t, l, "acme", "old", mp3Sound(3), PutOptions{Prompt: "hello", Language: "en"})
	put(t, l, "acme", "other", mp3Sound(5), PutOptions{})
	put(t, l, "acme", "middle", mp3Sound(5), PutOptions{})
	alias(t, l, ItemName{"beta", "far"}, ItemName{"acme", "middle"})
	alias(t, l, ItemName{"acme", "middle"}, ItemName{"acme", "old"}) // far → middle → old
	alias(t, l, ItemName{"acme", "near"}, ItemName{"acme", "old"})
	alias(t, l, ItemName{"acme", "else"}, ItemName{"acme", "other"})
	lists := map[ItemName][]string{
		{"acme", "moh"}: {"other", "old", "/acme/old", "near", "old"}, {"beta", "moh"}: {"/acme/old", "old"},
	}
	for name, items := range lists {
		p := Playlist{Account: name.Account, ID: name.ID, Items: items, Name: "Hold", Shuffle: true}
		if _, _, err := l.PutPlaylist(ctx, p, "", ""); err != nil {
			t.Fatal(err)
		}
	}
	moved := libtest.Must[Document](t)(l.Rename(ctx, CopyRequest{
		From: ItemName{"acme", "old"}, To: ItemName{"gamma", "new"},
	}))
	for _, name := range []string{"/acme/near", "/acme/middle", "/beta/far", "prompt://gamma/hello/en"} {
		found := libtest.Must[Lookup](t)(l.Lookup(ctx, LookupRequest{Name: name}))
		libtest.Equal(t, name, found.Account+"/"+found.ID, "gamma/new")
	}
	libtest.Equal(t, "sound", moved.SHA256, d.SHA256)
	libtest.Equal(t, "another's second name",
		libtest.Must[Document](t)(l.Get(ctx, "acme", "else", Local)).ID, "other")
	got := map[ItemName][]string{}
	for name := range lists {
		p := libtest.Must[Playlist](t)(l.Playlist(ctx, name.Account, name.ID))
		got[name] = p.Items
		if p.Name != "Hold" || !p.Shuffle {
			t.Errorf("a playlist is %+v", p)
		}
	}
	want := map[ItemName][]string{
		{"acme", "moh"}: {"other", "/gamma/new", "/gamma/new", "near", "/gamma/new"},
		{"beta", "moh"}: {"/gamma/new", "old"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("playlists:\n%s", diff)
	}

	// A second name that gets the item's place is the item; one that is renamed
	// has its own second names.
	libtest.Must[Document](t)(l.Rename(ctx, CopyRequest{
		From: ItemName{"gamma", "new"}, To: ItemName{"acme", "near"}, Overwrite: true,
	}))
	libtest.WantErr(t, "rename a second name", rename(t, l, "middle", "centre"), nil)
	libtest.Equal(t, "a second name of a second name",
		libtest.Must[Document](t)(l.Get(ctx, "beta", "far", Local)).ID, "near")
	for _, from := range []string{"centre", "else"} { // onto what they stand for
		to := map[string]string{"centre": "near", "else": "other"}[from]
		err := rename(t, l, from, to)
		libtest.Equal(t, "rename of "+from, fieldCode(err, "to"), field.Loop)
	}
	err := rename(t, l, "other", "moh")
	libtest.Equal(t, "rename to the playlist that plays it", fieldCode(err, "to"), field.Loop)
}

// TestRenameOfTooMuch: what does not go into one commit is refused, named, and
// left as it was; what just fits is renamed, whatever else that commit does.
func TestRenameOfTooMuch(t *testing.T) {
	t.Parallel()
	l, _ := newKeeping(t)
	ctx := t.Context()
	opts := PutOptions{Prompt: "hello", Language: "en"}
	put(t, l, "acme", "old", mp3Sound(3), opts)
	for i := range renamedPlacesMax {
		alias(t, l, ItemName{"acme", fmt.Sprintf("name%02d", i)}, ItemName{"acme", "old"})
	}
	put(t, l, "acme", "new", mp3Sound(4), PutOptions{Prompt: "bye", Language: "en"})
	put(t, l, "acme", "taken", mp3Sound(5), PutOptions{Prompt: "welcome", Language: "en"})
	_, _, err := l.PutPlaylist(ctx, Playlist{Account: "acme", ID: "moh", Items: []string{"old"}}, "", "")
	libtest.WantErr(t, "playlist", err, nil)
	err = rename(t, l, "old", "new")
	libtest.WantErr(t, "rename of too much", err, ErrUsed)
	if !strings.Contains(err.Error(), "acme/name00, ") || !strings.Contains(err.Error(), " and 60 more") {
		t.Errorf("it names nothing: %v", err)
	}
	libtest.Equal(t, "second name", libtest.Must[Document](t)(l.Get(ctx, "acme", "name63", Local)).ID, "old")
	libtest.WantErr(t, "delete", l.DeletePlaylist(ctx, "acme", "moh", ""), nil)
	_, err = l.Rename(ctx, CopyRequest{
		From: ItemName{"acme", "old"}, To: ItemName{"acme", "new"}, Overwrite: true,
		Set: Patch{Prompt: new("welcome")},
	})
	libtest.WantErr(t, "rename of what just fits", err, nil)
	libtest.Equal(t, "second name", libtest.Must[Document](t)(l.Get(ctx, "acme", "name63", Local)).ID, "new")
	libtest.Equal(t, "prompt of what was it",
		libtest.Must[Document](t)(l.Get(ctx, "acme", "taken", Local)).Prompt, "")

	long := strings.Repeat("x", 200)
	items := make([]string, PlaylistItemsMax/2)
	for i := range items {
		items[i] = long
	}
	items[0] = "new"
	for i := range renamedBytesMax/(len(items)*len(long)) + 1 {
		p := Playlist{Account: "acme", ID: fmt.Sprintf("list%d", i), Items: items}
		_, _, err := l.PutPlaylist(ctx, p, "", "")
		libtest.WantErr(t, "playlist", err, nil)
	}
	for i := range renamedPlacesMax {
		libtest.WantErr(t, "delete", l.Delete(ctx, "acme", fmt.Sprintf("name%02d", i), ""), nil)
	}
	libtest.WantErr(t, "rename of too many bytes", rename(t, l, "new", "newer"), ErrUsed)
}

// TestRenameOfAFallback: a setting cannot follow, so it is named.
func TestRenameOfAFallback(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.FallbackSound = "/acme/sorry"
	l := openLibrary(t, cfg, testDeps(libtest.OpenStore(t, t.TempDir())))
	fallback := func(name string) {
		t.Helper()
		setAccount(t, l, "acme", func(s *AccountSettings) { s.Fallback = name })
	}
	put(t, l, "acme", "sorry", wavSound(100), PutOptions{})
	err := rename(t, l, "sorry", "x")
	libtest.WantErr(t, "rename of the configuration's", err, ErrUsed)
	if !strings.Contains(err.Error(), "of play.fallback_sound") {
		t.Errorf("it does not say whose: %v", err)
	}
	put(t, l, "acme", "en/gone", wavSound(100), PutOptions{})
	put(t, l, "acme", "b", wavSound(100), PutOptions{Prompt: "b", Language: "en"})
	alias(t, l, ItemName{"acme", "en/gone-too"}, ItemName{"acme", "en/gone"})
	for name, item := range map[string]string{
		"en/gone": "en/gone", "/acme/en/gone.wav": "en/gone", "prompt://acme/gone/en": "en/gone",
		"file_string://none!b": "b",
	} {
		fallback(name)
		err := rename(t, l, item, "x")
		libtest.WantErr(t, "rename of "+name, err, ErrUsed)
		if !strings.Contains(err.Error(), "of account acme;") {
			t.Errorf("it does not say whose: %v", err)
		}
	}
	fallback("en/gone-too")
	libtest.WantErr(t, "rename of what has a second name there", rename(t, l, "en/gone", "x"), nil)
	fallback("prompt://acme/b/en")
	libtest.WantErr(t, "rename of a prompt", rename(t, l, "b", "c"), nil)
	found := libtest.Must[Lookup](t)(l.Lookup(t.Context(), LookupRequest{Name: "nowhere", Account: "acme"}))
	libtest.Equal(t, "fallback", found.ID, "c")
}

// racing makes a second name just before the next commit of a rename: the library
// commits other things by itself.
type racing struct {
	blobstore.Catalog

	first atomic.Pointer[func()]
}

// byRename marks the context of a rename.
type byRename struct{}

func (r *racing) Commit(ctx context.Context, txn blobstore.Txn) (uint64, error) {
	if ctx.Value(byRename{}) != nil {
		if first := r.first.Swap(nil); first != nil {
			(*first)()
		}
	}
	return r.Catalog.Commit(ctx, txn) //nolint:wrapcheck // it is the catalog's
}

// TestRenameMeetsAlias: a second name that is made while a rename looks for
// them follows, too.
func TestRenameMeetsAlias(t *testing.T) {
	t.Parallel()
	deps := testDeps(libtest.OpenStore(t, t.TempDir()))
	catalog := &racing{Catalog: deps.Catalog}
	deps.Catalog = catalog
	l := openLibrary(t, testConfig(), deps)
	put(t, l, "acme", "old", mp3Sound(3), PutOptions{})
	made := false
	first := func() {
		alias(t, l, ItemName{"beta", "second"}, ItemName{"acme", "old"})
		made = true
	}
	catalog.first.Store(&first)
	libtest.WantErr(t, "rename", rename(t, l, "old", "new"), nil)
	libtest.Equal(t, "a second name was made", made, true)
	got := libtest.Must[Document](t)(l.Get(t.Context(), "beta", "second", Local))
	libtest.Equal(t, "second name", got.ID, "new")
}
