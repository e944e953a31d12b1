package library

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"carillon/blobstore"
	"carillon/library/libtest"
)

// TestUses: whoever asks before deleting is told of every place that leads to
// an item, by whatever name, and of none that leads elsewhere.
func TestUses(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.FallbackSound = "/acme/sorry"
	l := openLibrary(t, cfg, testDeps(libtest.OpenStore(t, t.TempDir())))
	ctx := t.Context()
	alias := func(account, id, ofAccount, ofID string) {
		t.Helper()
		libtest.Must[Document](t)(l.Alias(ctx, AliasRequest{
			Alias: ItemName{account, id}, Of: ItemName{ofAccount, ofID}, Overwrite: true,
		}))
	}
	playlist := func(account, id string, items ...string) {
		t.Helper()
		if _, _, err := l.PutPlaylist(ctx, Playlist{Account: account, ID: id, Items: items}, "", ""); err != nil {
			t.Fatal(err)
		}
	}
	settings := func(account, parent, fallback string) {
		t.Helper()
		libtest.Must[AccountSettings](t)(l.UpdateAccount(ctx, account, "", func(s *AccountSettings) error {
			s.Parent, s.Fallback = parent, fallback
			return nil
		}))
	}
	uses := func(account, id string) []Use {
		t.Helper()
		u := libtest.Must[Uses](t)(l.Uses(ctx, account, id))
		if !u.Exists || u.More {
			t.Errorf("uses of %s/%s: %+v", account, id, u)
		}
		return u.Items
	}
	for _, id := range []string{"sorry", "old", "other"} {
		put(t, l, "acme", id, wavSound(100), PutOptions{})
	}
	put(t, l, "system", "sorry", wavSound(100), PutOptions{Prompt: "vm-sorry", Language: "en-us"})
	libtest.Equal(t, "uses of an item that nothing uses", len(uses("acme", "old")), 0)

	alias("acme", "excuse", "acme", "old")
	alias("acme", "old", "acme", "sorry") // now excuse → old → sorry
	playlist("acme", "moh", "other", "sorry", "sorry")
	playlist("beta", "moh", "/acme/excuse")
	playlist("beta", "own", "sorry") // which is beta/sorry, and not there
	settings("child", "acme", "")
	settings("acme", "", "file_string://other!prompt://acme/none!sorry")
	settings("gamma", "", "prompt://gamma/vm-sorry/en-us")
	settings("beta", "", "/acme/excuse")
	want := []Use{
		{Kind: UseAlias, Account: "acme", ID: "old"},
		{Kind: UseAlias, Account: "acme", ID: "excuse", By: "acme/old"},
		{Kind: UsePlaylist, Account: "acme", ID: "moh"},
		{Kind: UsePlaylist, Account: "beta", ID: "moh", By: "acme/excuse"},
		{Kind: UseFallback},
		{Kind: UseFallback, Account: "acme"},
		{Kind: UseFallback, Account: "beta", By: "acme/excuse"},
	}
	if diff := cmp.Diff(want, uses("acme", "sorry")); diff != "" {
		t.Errorf("uses:\n%s", diff)
	}
	want = []Use{
		{Kind: UsePrompt, Account: "system", ID: "vm-sorry", Language: "en-us"},
		{Kind: UseFallback, Account: "gamma"},
	}
	if diff := cmp.Diff(want, uses("system", "sorry")); diff != "" {
		t.Errorf("uses of a prompt:\n%s", diff)
	}
	// A second name is asked about as itself.
	want = []Use{
		{Kind: UsePlaylist, Account: "beta", ID: "moh"}, {Kind: UseFallback, Account: "beta"},
	}
	if diff := cmp.Diff(want, uses("acme", "excuse")); diff != "" {
		t.Errorf("uses of a second name:\n%s", diff)
	}
	// A playlist too, and what a parent's setting means in an account of its own.
	settings("acme", "", "moh")
	playlist("child", "moh", "x")
	if diff := cmp.Diff([]Use{{Kind: UseFallback, Account: "child"}}, uses("child", "moh")); diff != "" {
		t.Errorf("uses of a playlist:\n%s", diff)
	}

	// What a deletion left behind can still be found; a misspelt name is no item.
	libtest.WantErr(t, "delete", l.Delete(ctx, "acme", "sorry", ""), nil)
	left := libtest.Must[Uses](t)(l.Uses(ctx, "acme", "sorry"))
	if left.Exists || len(left.Items) != 4 {
		t.Errorf("left behind: %+v", left)
	}
	_, err := l.Uses(ctx, "acme", "sory")
	libtest.WantErr(t, "no item", err, ErrNotFound)
	_, err = l.Uses(ctx, "acme", "../x")
	libtest.WantErr(t, "no id", err, ErrBadName)
}

// TestUsesOfManyNames: an answer is bounded, and says so.
func TestUsesOfManyNames(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	put(t, l, "acme", "x", wavSound(10), PutOptions{})
	for n := 0; n <= UsesMax; {
		var txn blobstore.Txn
		for range blobstore.TxnOpsMax / 2 {
			d := Document{Account: "beta", ID: fmt.Sprintf("%05d", n), AliasOf: "acme/x", Source: sourceUpload}
			value := libtest.Must[[]byte](t)(encodeDocument(&d))
			txn.Put = append(txn.Put, blobstore.Row{Key: mediaKey(d.Account, d.ID), Value: value})
			n++
		}
		libtest.Must[uint64](t)(local.Commit(t.Context(), txn))
	}
	u := libtest.Must[Uses](t)(l.Uses(t.Context(), "acme", "x"))
	if len(u.Items) != UsesMax || !u.More {
		t.Errorf("%d uses, more %v", len(u.Items), u.More)
	}
}
