package library

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"carillon/library/naming"
	"carillon/library/rows"
)

// TestRecordingNames: a ticket's name must come back from libshout as it was.
func TestRecordingNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a.mp3", "vm/2024-01-01_10:20:30.mp3", "x~[1].wav"} {
		if err := checkRecordingName(name); err != nil {
			t.Errorf("checkRecordingName(%q) = %v, want nil", name, err)
		}
	}
	for _, name := range []string{
		"", "a b.mp3", "a@b.mp3", "a%20b.mp3", "ä.mp3", "a?b.mp3", "../a.mp3", "a\\b",
	} {
		if err := checkRecordingName(name); !errors.Is(err, ErrBadName) {
			t.Errorf("checkRecordingName(%q) = %v, want ErrBadName", name, err)
		}
	}
}

// TestMediaKeys: keys sort as ids do and are different for different items.
func TestMediaKeys(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		account := rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._-]{0,5}`)
		id := rapid.StringMatching(`[a-z0-9 .~é-]{1,4}(/[a-z0-9.~-]{1,3}){0,2}`)
		a1, i1 := account.Draw(t, "account1"), id.Draw(t, "id1")
		a2, i2 := account.Draw(t, "account2"), id.Draw(t, "id2")
		same := a1 == a2 && i1 == i2
		if (mediaKey(a1, i1) == mediaKey(a2, i2)) != same {
			t.Fatalf("%q/%q and %q/%q: keys %q and %q", a1, i1, a2, i2, mediaKey(a1, i1), mediaKey(a2, i2))
		}
		if got, want := strings.Compare(mediaKey(a1, i1), mediaKey(a1, i2)), strings.Compare(i1, i2); got != want {
			t.Fatalf("%q and %q sort as %d, their keys as %d", i1, i2, want, got)
		}
	})
}

func TestExtensions(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"a.mp3": "a", "a/b.wav": "a/b", "a.b.ogg": "a.b",
		"a": "", ".mp3": "", "d/.mp3": "", "a.mp3x": "", "a.MP3": "",
	} {
		stem, format := splitExt(id)
		if want == "" {
			want = id
			if format != "" {
				t.Errorf("splitExt(%q) found %q", id, format)
			}
		}
		if stem != want {
			t.Errorf("splitExt(%q) = %q, want %q", id, stem, want)
		}
	}
	for name, want := range map[string]bool{
		"a": false, "a.mp3": true, "a.b/c": false, ".a": false, "a.": false, "a/b.x": true,
	} {
		if hasExt(name) != want {
			t.Errorf("hasExt(%q) = %v", name, !want)
		}
	}
}

// TestLimitsFit: the longest names still make keys that the catalog takes.
func TestLimitsFit(t *testing.T) {
	t.Parallel()
	account, id := strings.Repeat("a", naming.AccountBytesMax), strings.Repeat("i", naming.IDBytesMax)
	d := Document{
		Account: account, ID: id,
		Prompt: strings.Repeat("p", promptBytesMax), Language: strings.Repeat("l", languageBytesMax),
	}
	const keyBytesMax = 1 << 10 // blobstore.KeyBytesMax
	for _, key := range []string{
		promptKey(&d), refKeyOf(&d), nameKey(account, id, rows.NewID(time.Now())), liveKey(account, id),
	} {
		if len(key) > keyBytesMax {
			t.Errorf("key of %d bytes: %.20q…", len(key), key)
		}
	}
}
