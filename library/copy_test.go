package library

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"carillon/blobstore"
	"carillon/library/field"
	"carillon/library/libtest"
)

// newKeeping is a library that keeps what was deleted.
func newKeeping(t *testing.T) (*Library, *blobstore.Local) {
	t.Helper()
	cfg, local := testConfig(), libtest.OpenStore(t, t.TempDir())
	cfg.UndeleteWindow = time.Hour
	return openLibrary(t, cfg, testDeps(local)), local
}

func fieldCode(err error, name string) string {
	fields, _ := errors.AsType[field.Errors](err)
	return fields[name].Code
}

// TestCopy: the same sound under another name, its own document, and the sound
// lives as long as one of them.
func TestCopy(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	ctx := t.Context()
	sound := mp3Sound(10)
	d := put(t, l, "acme", "en-us/hello", sound, PutOptions{
		Prompt: "hello", Language: "en-us", Name: "Hello", Class: ClassVoicemail,
		Metadata: map[string]string{"a": "1"},
	})
	within := libtest.Must[Document](t)(l.Copy(ctx, CopyRequest{
		From: ItemName{"acme", "en-us/hello"}, To: ItemName{"acme", "b"},
	}))
	libtest.Equal(t, "prompt of a copy within the account", within.Prompt, "")
	libtest.Equal(t, "class", within.Class, ClassVoicemail)
	across := libtest.Must[Document](t)(l.Copy(ctx, CopyRequest{
		From: ItemName{"acme", "en-us/hello"}, To: ItemName{"other", "x"},
		Set:     Patch{Name: new("Other"), Metadata: map[string]string{"a": "", "b": "2"}},
		IfMatch: d.ETag(), IfNoneMatch: "*",
	}))
	libtest.Equal(t, "prompt of a copy in another account", across.Prompt, "hello")
	libtest.Equal(t, "name", across.Name, "Other")
	libtest.Equal(t, "metadata", across.Metadata["a"]+across.Metadata["b"], "2")
	libtest.Equal(t, "blob", across.Blob, d.Blob)
	libtest.Equal(t, "prompt",
		libtest.Must[Lookup](t)(l.Lookup(ctx, LookupRequest{Name: "prompt://other/hello"})).ID, "x")
	own := libtest.Must[Lookup](t)(l.Lookup(ctx, LookupRequest{Name: "prompt://acme/hello"}))
	libtest.Equal(t, "prompt", own.ID, "en-us/hello")

	to := CopyRequest{From: ItemName{"acme", "b"}, To: ItemName{"other", "x"}}
	_, err := l.Copy(ctx, to)
	libtest.WantErr(t, "copy over an item", err, ErrExists)
	to.IfNoneMatch, to.Overwrite = "*", true
	_, err = l.Copy(ctx, to)
	libtest.WantErr(t, "copy over an item that must not be there", err, ErrPrecondition)
	to.IfNoneMatch, to.IfMatch = "", `"other"`
	_, err = l.Copy(ctx, to)
	libtest.WantErr(t, "copy of another sound", err, ErrPrecondition)
	to.IfMatch, to.Set = "", Patch{Prompt: new("a/b")}
	_, err = l.Copy(ctx, to)
	libtest.Equal(t, "prompt id with a slash", fieldCode(err, "prompt_id"), field.Invalid)
	_, err = l.Copy(ctx, CopyRequest{From: ItemName{"acme", "b"}, To: ItemName{"acme", "b"}})
	libtest.Equal(t, "copy onto itself", fieldCode(err, "to"), field.Invalid)
	_, err = l.Copy(ctx, CopyRequest{From: ItemName{"acme", "nothing"}, To: ItemName{"acme", "c"}})
	libtest.WantErr(t, "copy of nothing", err, ErrNotFound)

	for i, name := range []ItemName{{"acme", "en-us/hello"}, {"acme", "b"}, {"other", "x"}} {
		got := libtest.Must[Document](t)(l.Get(ctx, name.Account, name.ID, Local))
		if !bytes.Equal(readItem(t, l, got), sound) {
			t.Errorf("%s has another sound", name)
		}
		libtest.Equal(t, "references", len(refs(t, local)), 3-i)
		libtest.WantErr(t, "delete", l.Delete(ctx, name.Account, name.ID, ""), nil)
	}
	libtest.Equal(t, "references in the end", len(refs(t, local)), 0)
	libtest.Equal(t, "prompts in the end", len(libtest.Keys(t, local, promptPrefix)), 0)
}

// TestRename: one commit, one reference, the age stays, the prompt goes with it.
func TestRename(t *testing.T) {
	t.Parallel()
	l, local := newKeeping(t)
	ctx := t.Context()
	d := put(t, l, "acme", "old", mp3Sound(3), PutOptions{Prompt: "hello", Language: "en-us"})
	r := libtest.Must[Document](t)(l.Rename(ctx, CopyRequest{
		From: ItemName{"acme", "old"}, To: ItemName{"acme", "new/name"},
	}))
	libtest.Equal(t, "created", r.Created, d.Created)
	libtest.Equal(t, "stored", r.Stored, d.Stored)
	libtest.Equal(t, "prompt", r.Prompt, "hello")
	_, err := l.Get(ctx, "acme", "old", Fresh)
	libtest.WantErr(t, "old name", err, ErrNotFound)
	libtest.Equal(t, "prompt",
		libtest.Must[Lookup](t)(l.Lookup(ctx, LookupRequest{Name: "prompt://acme/hello"})).ID, "new/name")
	if got := refs(t, local); !slices.Equal(got, []string{refKeyOf(&r)}) {
		t.Errorf("references are %q", got)
	}
	libtest.Equal(t, "rows of deleted items", len(libtest.Keys(t, local, deletedPrefix)), 0)

	// Another language is another prompt.
	r = libtest.Must[Document](t)(l.Rename(ctx, CopyRequest{
		From: ItemName{"acme", "new/name"}, To: ItemName{"b", "x"}, Set: Patch{Language: new("DE")},
	}))
	if got := libtest.Keys(t, local, promptPrefix); !slices.Equal(got,
		[]string{promptIndexKey("b", "hello", "de")}) {
		t.Errorf("index rows are %q", got)
	}
	put(t, l, "b", "y", mp3Sound(3), PutOptions{})
	_, err = l.Rename(ctx, CopyRequest{From: ItemName{"b", "y"}, To: ItemName{"b", "x"}})
	libtest.WantErr(t, "rename onto an item", err, ErrExists)
	over := libtest.Must[Document](t)(l.Rename(ctx, CopyRequest{
		From: ItemName{"b", "y"}, To: ItemName{"b", "x"}, Overwrite: true,
	}))
	if got := refs(t, local); !slices.Equal(got, []string{refKeyOf(&over)}) {
		t.Errorf("references are %q", got)
	}
}

// TestAlias: a second name follows the item through replacements, and ends with it.
func TestAlias(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	ctx := t.Context()
	put(t, l, "acme", "moh/jazz", mp3Sound(3), PutOptions{})
	of := ItemName{"acme", "moh/jazz"}
	libtest.Must[Document](t)(l.Alias(ctx, AliasRequest{Alias: ItemName{"acme", "moh"}, Of: of}))
	libtest.Must[Document](t)(l.Alias(ctx, AliasRequest{
		Alias: ItemName{"other", "hold.mp3"}, Of: ItemName{"acme", "moh"},
	}))
	second := put(t, l, "acme", "moh/jazz", mp3Sound(4), PutOptions{})
	for _, name := range []ItemName{{"acme", "moh"}, {"other", "hold.mp3"}, {"other", "hold"}} {
		got, err := l.Mount(ctx, name.Account, name.ID)
		if name.ID == "hold" {
			libtest.WantErr(t, "a name without the alias's extension", err, ErrNotFound)
			continue
		}
		if err != nil || got.Doc.SHA256 != second.SHA256 || got.Doc.ID != "moh/jazz" {
			t.Errorf("%s is %+v, %v", name, got.Doc, err)
		}
	}
	found := libtest.Must[Lookup](t)(l.Lookup(ctx, LookupRequest{Name: "hold.mp3", Account: "other"}))
	libtest.Equal(t, "lookup", found.ID, "moh/jazz")
	page := libtest.Must[Page](t)(l.List(ctx, "other", ListQuery{}))
	if len(page.Items) != 1 || page.Items[0].AliasOf != "acme/moh/jazz" || page.Items[0].Size != 0 {
		t.Errorf("listed %+v", page.Items)
	}
	libtest.Equal(t, "references", len(refs(t, local)), 1)
	d := libtest.Must[Document](t)(l.Update(ctx, "acme", "moh", Patch{Name: new("Jazz")}))
	libtest.Equal(t, "item that was changed", d.ID, "moh/jazz")
	_, err := l.Alias(ctx, AliasRequest{Alias: ItemName{"acme", "moh"}, Of: of})
	libtest.WantErr(t, "alias over an alias", err, ErrExists)
	_, err = l.Alias(ctx, AliasRequest{Alias: of, Of: ItemName{"acme", "moh"}, Overwrite: true})
	libtest.WantErr(t, "alias of itself", err, ErrExists)

	// A second name that is written to becomes an item.
	_, _, err = l.Put(ctx, "acme", "moh", bytes.NewReader(mp3Sound(3)), PutOptions{
		Length: -1, IfMatch: second.ETag(),
	})
	libtest.WantErr(t, "put on a second name", err, nil)
	libtest.Equal(t, "sound of the item",
		libtest.Must[Document](t)(l.Get(ctx, "acme", "moh/jazz", Local)).SHA256, second.SHA256)
	libtest.WantErr(t, "delete", l.Delete(ctx, "acme", "moh/jazz", ""), nil)
	_, err = l.Get(ctx, "other", "hold.mp3", Fresh)
	libtest.WantErr(t, "second name of nothing", err, ErrNotFound)
	if !strings.Contains(err.Error(), "a second name of acme/moh/jazz") {
		t.Errorf("it does not say which item is gone: %v", err)
	}
	libtest.WantErr(t, "delete", l.Delete(ctx, "other", "hold.mp3", ""), nil)
	libtest.Equal(t, "references", len(refs(t, local)), 1)
}

// TestUndelete: what was deleted comes back whole, each deletion by itself.
func TestUndelete(t *testing.T) {
	t.Parallel()
	l, local := newKeeping(t)
	ctx := t.Context()
	opts := PutOptions{Prompt: "hello", Language: "de", Metadata: map[string]string{"a": "1"}}
	first := put(t, l, "acme", "x", mp3Sound(3), opts)
	libtest.WantErr(t, "delete", l.Delete(ctx, "acme", "x", first.ETag()), nil)
	_, err := l.Get(ctx, "acme", "x", Fresh)
	libtest.WantErr(t, "deleted item", err, ErrNotFound)
	_, err = l.Lookup(ctx, LookupRequest{Name: "prompt://acme/hello/de"})
	libtest.WantErr(t, "deleted prompt", err, ErrNotFound)
	second := put(t, l, "acme", "x", mp3Sound(4), PutOptions{})
	libtest.WantErr(t, "delete again", l.Delete(ctx, "acme", "x", ""), nil)
	put(t, l, "acme", "y", mp3Sound(3), PutOptions{})
	libtest.WantErr(t, "delete", l.Delete(ctx, "acme", "y", ""), nil)
	libtest.Equal(t, "references", len(refs(t, local)), 3)

	var listed []Document
	q := ListQuery{Deleted: true, Limit: 1}
	for {
		page := libtest.Must[Page](t)(l.List(ctx, "acme", q))
		listed = append(listed, page.Items...)
		if q.After = page.Next; q.After == "" {
			break
		}
	}
	if len(listed) != 3 || listed[0].SHA256 != second.SHA256 || listed[1].SHA256 != first.SHA256 ||
		listed[2].ID != "y" {
		t.Fatalf("deleted are %+v", listed)
	}
	if del := listed[0].Deletion; del.Reason != DeletedByRequest || del.Until.Sub(del.Time) != time.Hour {
		t.Errorf("deletion is %+v", del)
	}
	d := libtest.Must[Document](t)(l.Undelete(ctx, UndeleteRequest{Account: "acme", ID: "x"}))
	libtest.Equal(t, "sound of the latest", d.SHA256, second.SHA256)
	_, err = l.Undelete(ctx, UndeleteRequest{Account: "acme", ID: "x"})
	libtest.WantErr(t, "undelete onto an item", err, ErrExists)
	d = libtest.Must[Document](t)(l.Undelete(ctx, UndeleteRequest{
		Account: "acme", ID: "x", Deletion: listed[1].Deletion.ID, As: "z",
	}))
	libtest.Equal(t, "sound of the first", d.SHA256, first.SHA256)
	libtest.Equal(t, "metadata", d.Metadata["a"], "1")
	libtest.Equal(t, "prompt",
		libtest.Must[Lookup](t)(l.Lookup(ctx, LookupRequest{Name: "prompt://acme/hello/de"})).ID, "z")
	if !bytes.Equal(readItem(t, l, d), readItem(t, l, first)) {
		t.Error("another sound came back")
	}
	_, err = l.Undelete(ctx, UndeleteRequest{Account: "acme", ID: "x", Deletion: "nonsense"})
	libtest.WantErr(t, "undelete of nothing", err, ErrNotFound)
	libtest.WantErr(t, "purge", l.Purge(ctx, "acme", "y", ""), nil)
	libtest.WantErr(t, "purge again", l.Purge(ctx, "acme", "y", ""), ErrNotFound)
	libtest.WantErr(t, "delete", l.Delete(ctx, "acme", "x", ""), nil)
	put(t, l, "acme", "x", mp3Sound(3), PutOptions{})
	libtest.WantErr(t, "purge of both", l.Purge(ctx, "acme", "x", ""), nil)
	if got := refs(t, local); !slices.Equal(got, []string{refKeyOf(&d)}) {
		t.Errorf("references are %q", got)
	}
}

// TestPromptTaken: an account has one sound for a prompt in a language.
func TestPromptTaken(t *testing.T) {
	t.Parallel()
	l, _ := newKeeping(t)
	ctx := t.Context()
	opts := PutOptions{Prompt: "hello", Language: "en"}
	put(t, l, "acme", "old", mp3Sound(3), opts)
	put(t, l, "acme", "new", mp3Sound(3), opts)
	libtest.Equal(t, "prompt of the old", libtest.Must[Document](t)(l.Get(ctx, "acme", "old", Local)).Prompt, "")
	libtest.WantErr(t, "delete", l.Delete(ctx, "acme", "new", ""), nil)
	libtest.Must[Document](t)(l.Update(ctx, "acme", "old", Patch{Prompt: new("hello")}))
	d := libtest.Must[Document](t)(l.Undelete(ctx, UndeleteRequest{Account: "acme", ID: "new"}))
	libtest.Equal(t, "prompt of what came back", d.Prompt, "")
	libtest.Equal(t, "prompt",
		libtest.Must[Lookup](t)(l.Lookup(ctx, LookupRequest{Name: "prompt://acme/hello/en"})).ID, "old")
	_, err := l.Update(ctx, "acme", "old", Patch{Language: new("fr")})
	libtest.Equal(t, "another language", fieldCode(err, "language"), field.Fixed)
	_, _, err = l.Put(ctx, "acme", "old", bytes.NewReader(mp3Sound(3)), PutOptions{Length: -1, Prompt: "bye"})
	libtest.Equal(t, "another prompt", fieldCode(err, "prompt_id"), field.Fixed)
	put(t, l, "acme", "old", mp3Sound(5), opts) // another sound of the same
}

// TestQuota: what would not fit is refused before its body is read, and a
// recording only before it is made.
func TestQuota(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	ctx := t.Context()
	sound := mp3Sound(10)
	setAccount(t, l, "acme", func(s *AccountSettings) {
		s.Quota = Quota{Bytes: int64(2*len(sound) + 10), Items: 3}
	})
	put(t, l, "acme", "a", sound, PutOptions{})
	put(t, l, "acme", "b", sound, PutOptions{})
	put(t, l, "acme", "b", sound, PutOptions{}) // in its own place
	for _, length := range []int64{int64(len(sound)), -1} {
		_, _, err := l.Put(ctx, "acme", "c", bytes.NewReader(sound), PutOptions{Length: length})
		libtest.WantErr(t, "a third", err, ErrQuota)
	}
	_, err := l.Copy(ctx, CopyRequest{From: ItemName{"acme", "a"}, To: ItemName{"acme", "c"}})
	libtest.WantErr(t, "a copy", err, ErrQuota)
	libtest.Must[Document](t)(l.Rename(ctx, CopyRequest{From: ItemName{"acme", "a"}, To: ItemName{"acme", "c"}}))
	libtest.WantErr(t, "room for a recording", l.checkRoom(ctx, "acme"), nil)
	u := libtest.Must[AccountUsage](t)(l.Usage(ctx, "acme"))
	libtest.Equal(t, "usage", u.Usage, Usage{Items: 2, Bytes: int64(2 * len(sound))})
	setAccount(t, l, "acme", func(s *AccountSettings) { s.Quota.Bytes = 10 })
	libtest.WantErr(t, "room for a recording", l.checkRoom(ctx, "acme"), ErrQuota)
	_, err = l.CreateRecording(ctx, RecordingRequest{Account: "acme"})
	libtest.WantErr(t, "a ticket", err, ErrQuota)
	libtest.WantErr(t, "room elsewhere", l.checkRoom(ctx, "other"), nil)
}
