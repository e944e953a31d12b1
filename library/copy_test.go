package library

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"carillon/blobstore"
)

// newKeeping is a library that keeps what was deleted.
func newKeeping(t *testing.T) (*Library, *blobstore.Local) {
	t.Helper()
	cfg, local := testConfig(), openLocal(t, t.TempDir())
	cfg.UndeleteWindow = time.Hour
	return openLibrary(t, cfg, testDeps(local)), local
}

func fieldCode(err error, field string) string {
	fields, _ := errors.AsType[FieldErrors](err)
	return fields[field].Code
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
	within := must[Document](t)(l.Copy(ctx, CopyRequest{
		From: ItemName{"acme", "en-us/hello"}, To: ItemName{"acme", "b"},
	}))
	equal(t, "prompt of a copy within the account", within.Prompt, "")
	equal(t, "class", within.Class, ClassVoicemail)
	across := must[Document](t)(l.Copy(ctx, CopyRequest{
		From: ItemName{"acme", "en-us/hello"}, To: ItemName{"other", "x"},
		Set:     Patch{Name: new("Other"), Metadata: map[string]string{"a": "", "b": "2"}},
		IfMatch: d.ETag(), IfNoneMatch: "*",
	}))
	equal(t, "prompt of a copy in another account", across.Prompt, "hello")
	equal(t, "name", across.Name, "Other")
	equal(t, "metadata", across.Metadata["a"]+across.Metadata["b"], "2")
	equal(t, "blob", across.Blob, d.Blob)
	equal(t, "prompt", must[Lookup](t)(l.Lookup(ctx, LookupRequest{Name: "prompt://other/hello"})).ID, "x")
	own := must[Lookup](t)(l.Lookup(ctx, LookupRequest{Name: "prompt://acme/hello"}))
	equal(t, "prompt", own.ID, "en-us/hello")

	to := CopyRequest{From: ItemName{"acme", "b"}, To: ItemName{"other", "x"}}
	_, err := l.Copy(ctx, to)
	wantErr(t, "copy over an item", err, ErrExists)
	to.IfNoneMatch, to.Overwrite = "*", true
	_, err = l.Copy(ctx, to)
	wantErr(t, "copy over an item that must not be there", err, ErrPrecondition)
	to.IfNoneMatch, to.IfMatch = "", `"other"`
	_, err = l.Copy(ctx, to)
	wantErr(t, "copy of another sound", err, ErrPrecondition)
	to.IfMatch, to.Set = "", Patch{Prompt: new("a/b")}
	_, err = l.Copy(ctx, to)
	equal(t, "prompt id with a slash", fieldCode(err, "prompt_id"), fieldInvalid)
	_, err = l.Copy(ctx, CopyRequest{From: ItemName{"acme", "b"}, To: ItemName{"acme", "b"}})
	equal(t, "copy onto itself", fieldCode(err, "to"), fieldInvalid)
	_, err = l.Copy(ctx, CopyRequest{From: ItemName{"acme", "nothing"}, To: ItemName{"acme", "c"}})
	wantErr(t, "copy of nothing", err, ErrNotFound)

	for i, name := range []ItemName{{"acme", "en-us/hello"}, {"acme", "b"}, {"other", "x"}} {
		got := must[Document](t)(l.Get(ctx, name.Account, name.ID, Local))
		if !bytes.Equal(readItem(t, l, got), sound) {
			t.Errorf("%s has another sound", name)
		}
		equal(t, "references", len(refs(t, local)), 3-i)
		wantErr(t, "delete", l.Delete(ctx, name.Account, name.ID, ""), nil)
	}
	equal(t, "references in the end", len(refs(t, local)), 0)
	equal(t, "prompts in the end", len(keys(t, local, promptPrefix)), 0)
}

// TestRename: one commit, one reference, the age stays, the prompt goes with it.
func TestRename(t *testing.T) {
	t.Parallel()
	l, local := newKeeping(t)
	ctx := t.Context()
	d := put(t, l, "acme", "old", mp3Sound(3), PutOptions{Prompt: "hello", Language: "en-us"})
	r := must[Document](t)(l.Rename(ctx, CopyRequest{
		From: ItemName{"acme", "old"}, To: ItemName{"acme", "new/name"},
	}))
	equal(t, "created", r.Created, d.Created)
	equal(t, "stored", r.Stored, d.Stored)
	equal(t, "prompt", r.Prompt, "hello")
	_, err := l.Get(ctx, "acme", "old", Fresh)
	wantErr(t, "old name", err, ErrNotFound)
	equal(t, "prompt", must[Lookup](t)(l.Lookup(ctx, LookupRequest{Name: "prompt://acme/hello"})).ID, "new/name")
	if got := refs(t, local); !slices.Equal(got, []string{refKeyOf(&r)}) {
		t.Errorf("references are %q", got)
	}
	equal(t, "rows of deleted items", len(keys(t, local, deletedPrefix)), 0)

	// Another language is another prompt.
	r = must[Document](t)(l.Rename(ctx, CopyRequest{
		From: ItemName{"acme", "new/name"}, To: ItemName{"b", "x"}, Set: Patch{Language: new("DE")},
	}))
	if got := keys(t, local, promptPrefix); !slices.Equal(got, []string{promptIndexKey("b", "hello", "de")}) {
		t.Errorf("index rows are %q", got)
	}
	put(t, l, "b", "y", mp3Sound(3), PutOptions{})
	_, err = l.Rename(ctx, CopyRequest{From: ItemName{"b", "y"}, To: ItemName{"b", "x"}})
	wantErr(t, "rename onto an item", err, ErrExists)
	over := must[Document](t)(l.Rename(ctx, CopyRequest{
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
	must[Document](t)(l.Alias(ctx, AliasRequest{Alias: ItemName{"acme", "moh"}, Of: of}))
	must[Document](t)(l.Alias(ctx, AliasRequest{
		Alias: ItemName{"other", "hold.mp3"}, Of: ItemName{"acme", "moh"},
	}))
	second := put(t, l, "acme", "moh/jazz", mp3Sound(4), PutOptions{})
	for _, name := range []ItemName{{"acme", "moh"}, {"other", "hold.mp3"}, {"other", "hold"}} {
		got, err := l.Mount(ctx, name.Account, name.ID)
		if name.ID == "hold" {
			wantErr(t, "a name without the alias's extension", err, ErrNotFound)
			continue
		}
		if err != nil || got.Doc.SHA256 != second.SHA256 || got.Doc.ID != "moh/jazz" {
			t.Errorf("%s is %+v, %v", name, got.Doc, err)
		}
	}
	found := must[Lookup](t)(l.Lookup(ctx, LookupRequest{Name: "hold.mp3", Account: "other"}))
	equal(t, "lookup", found.ID, "moh/jazz")
	page := must[Page](t)(l.List(ctx, "other", ListQuery{}))
	if len(page.Items) != 1 || page.Items[0].AliasOf != "acme/moh/jazz" || page.Items[0].Size != 0 {
		t.Errorf("listed %+v", page.Items)
	}
	equal(t, "references", len(refs(t, local)), 1)
	d := must[Document](t)(l.Update(ctx, "acme", "moh", Patch{Name: new("Jazz")}))
	equal(t, "item that was changed", d.ID, "moh/jazz")
	_, err := l.Alias(ctx, AliasRequest{Alias: ItemName{"acme", "moh"}, Of: of})
	wantErr(t, "alias over an alias", err, ErrExists)
	_, err = l.Alias(ctx, AliasRequest{Alias: of, Of: ItemName{"acme", "moh"}, Overwrite: true})
	wantErr(t, "alias of itself", err, ErrExists)

	// A second name that is written to becomes an item.
	_, _, err = l.Put(ctx, "acme", "moh", bytes.NewReader(mp3Sound(3)), PutOptions{
		Length: -1, IfMatch: second.ETag(),
	})
	wantErr(t, "put on a second name", err, nil)
	equal(t, "sound of the item", must[Document](t)(l.Get(ctx, "acme", "moh/jazz", Local)).SHA256, second.SHA256)
	wantErr(t, "delete", l.Delete(ctx, "acme", "moh/jazz", ""), nil)
	_, err = l.Get(ctx, "other", "hold.mp3", Fresh)
	wantErr(t, "second name of nothing", err, ErrNotFound)
	wantErr(t, "delete", l.Delete(ctx, "other", "hold.mp3", ""), nil)
	equal(t, "references", len(refs(t, local)), 1)
}

// TestUndelete: what was deleted comes back whole, each deletion by itself.
func TestUndelete(t *testing.T) {
	t.Parallel()
	l, local := newKeeping(t)
	ctx := t.Context()
	opts := PutOptions{Prompt: "hello", Language: "de", Metadata: map[string]string{"a": "1"}}
	first := put(t, l, "acme", "x", mp3Sound(3), opts)
	wantErr(t, "delete", l.Delete(ctx, "acme", "x", first.ETag()), nil)
	_, err := l.Get(ctx, "acme", "x", Fresh)
	wantErr(t, "deleted item", err, ErrNotFound)
	_, err = l.Lookup(ctx, LookupRequest{Name: "prompt://acme/hello/de"})
	wantErr(t, "deleted prompt", err, ErrNotFound)
	second := put(t, l, "acme", "x", mp3Sound(4), PutOptions{})
	wantErr(t, "delete again", l.Delete(ctx, "acme", "x", ""), nil)
	put(t, l, "acme", "y", mp3Sound(3), PutOptions{})
	wantErr(t, "delete", l.Delete(ctx, "acme", "y", ""), nil)
	equal(t, "references", len(refs(t, local)), 3)

	var listed []Document
	q := ListQuery{Deleted: true, Limit: 1}
	for {
		page := must[Page](t)(l.List(ctx, "acme", q))
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
	d := must[Document](t)(l.Undelete(ctx, UndeleteRequest{Account: "acme", ID: "x"}))
	equal(t, "sound of the latest", d.SHA256, second.SHA256)
	_, err = l.Undelete(ctx, UndeleteRequest{Account: "acme", ID: "x"})
	wantErr(t, "undelete onto an item", err, ErrExists)
	d = must[Document](t)(l.Undelete(ctx, UndeleteRequest{
		Account: "acme", ID: "x", Deletion: listed[1].Deletion.ID, As: "z",
	}))
	equal(t, "sound of the first", d.SHA256, first.SHA256)
	equal(t, "metadata", d.Metadata["a"], "1")
	equal(t, "prompt", must[Lookup](t)(l.Lookup(ctx, LookupRequest{Name: "prompt://acme/hello/de"})).ID, "z")
	if !bytes.Equal(readItem(t, l, d), readItem(t, l, first)) {
		t.Error("another sound came back")
	}
	_, err = l.Undelete(ctx, UndeleteRequest{Account: "acme", ID: "x", Deletion: "nonsense"})
	wantErr(t, "undelete of nothing", err, ErrNotFound)
	wantErr(t, "purge", l.Purge(ctx, "acme", "y", ""), nil)
	wantErr(t, "purge again", l.Purge(ctx, "acme", "y", ""), ErrNotFound)
	wantErr(t, "delete", l.Delete(ctx, "acme", "x", ""), nil)
	put(t, l, "acme", "x", mp3Sound(3), PutOptions{})
	wantErr(t, "purge of both", l.Purge(ctx, "acme", "x", ""), nil)
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
	equal(t, "prompt of the old", must[Document](t)(l.Get(ctx, "acme", "old", Local)).Prompt, "")
	wantErr(t, "delete", l.Delete(ctx, "acme", "new", ""), nil)
	must[Document](t)(l.Update(ctx, "acme", "old", Patch{Prompt: new("hello")}))
	d := must[Document](t)(l.Undelete(ctx, UndeleteRequest{Account: "acme", ID: "new"}))
	equal(t, "prompt of what came back", d.Prompt, "")
	equal(t, "prompt", must[Lookup](t)(l.Lookup(ctx, LookupRequest{Name: "prompt://acme/hello/en"})).ID, "old")
	_, err := l.Update(ctx, "acme", "old", Patch{Language: new("fr")})
	equal(t, "another language", fieldCode(err, "language"), fieldFixed)
	_, _, err = l.Put(ctx, "acme", "old", bytes.NewReader(mp3Sound(3)), PutOptions{Length: -1, Prompt: "bye"})
	equal(t, "another prompt", fieldCode(err, "prompt_id"), fieldFixed)
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
		wantErr(t, "a third", err, ErrQuota)
	}
	_, err := l.Copy(ctx, CopyRequest{From: ItemName{"acme", "a"}, To: ItemName{"acme", "c"}})
	wantErr(t, "a copy", err, ErrQuota)
	must[Document](t)(l.Rename(ctx, CopyRequest{From: ItemName{"acme", "a"}, To: ItemName{"acme", "c"}}))
	wantErr(t, "room for a recording", l.checkRoom(ctx, "acme"), nil)
	u := must[AccountUsage](t)(l.Usage(ctx, "acme"))
	equal(t, "usage", u.Usage, Usage{Items: 2, Bytes: int64(2 * len(sound))})
	setAccount(t, l, "acme", func(s *AccountSettings) { s.Quota.Bytes = 10 })
	wantErr(t, "room for a recording", l.checkRoom(ctx, "acme"), ErrQuota)
	_, err = l.CreateRecording(ctx, RecordingRequest{Account: "acme"})
	wantErr(t, "a ticket", err, ErrQuota)
	wantErr(t, "room elsewhere", l.checkRoom(ctx, "other"), nil)
}
