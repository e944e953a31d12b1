package library

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestCheckItem: what clients may call things, and what they may not.
func TestCheckItem(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", IDBytesMax)
	good := [][2]string{
		{"a", "b"},
		{"4c1f8ee7a60bd59d8bc3ef8d7a3dbb77", "moh/jazz.mp3"},
		{"A-1.b_c", "en-us/vm-enter_id"},
		{"system", "Grüße/an alle.wav"},
		{strings.Repeat("a", AccountBytesMax), long},
		{"a", "..."},
		{"a", ".hidden"},
		{"a", "a..b/c"},
		{"a", "100%/x?y#z@host:80"},
	}
	for _, n := range good {
		if err := checkItem(n[0], n[1]); err != nil {
			t.Errorf("checkItem(%q, %q) = %v, want nil", n[0], n[1], err)
		}
	}
	bad := [][2]string{
		{"", "b"},
		{".", "b"},
		{"..", "b"},
		{"-a", "b"},
		{"a/b", "c"},
		{"a b", "c"},
		{"ä", "c"},
		{"a\x00", "c"},
		{strings.Repeat("a", AccountBytesMax+1), "c"},
		{"a", ""},
		{"a", "."},
		{"a", ".."},
		{"a", "../b"},
		{"a", "b/.."},
		{"a", "b/../c"},
		{"a", "b/./c"},
		{"a", "/b"},
		{"a", "b/"},
		{"a", "b//c"},
		{"a", "b\x00c"},
		{"a", "b\nc"},
		{"a", "b\x7fc"},
		{"a", "b\u0085c"},
		{"a", "\xff\xfe"},
		{"a", "b\xc0\xaf.."},
		{"a", long + "x"},
		{"a", strings.Repeat("y", 10<<10)},
	}
	for _, n := range bad {
		if err := checkItem(n[0], n[1]); !errors.Is(err, ErrBadName) {
			t.Errorf("checkItem(%.40q, %.40q) = %v, want ErrBadName", n[0], n[1], err)
		} else if len(err.Error()) > 500 {
			t.Errorf("error of %d bytes tells a long name back", len(err.Error()))
		}
	}
}

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

// TestRecordingIDs: ids sort by their time to the millisecond, are different,
// and the index by name turns their order round.
func TestRecordingIDs(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var ids, inverted []string
	for i := range 200 {
		id := newRecordingID(start.Add(time.Duration(i) * time.Millisecond))
		if !isRecordingID(id) {
			t.Fatalf("%q is not taken for a recording id", id)
		}
		if invertID(invertID(id)) != id {
			t.Fatalf("inverting %q twice gives %q", id, invertID(invertID(id)))
		}
		ids, inverted = append(ids, id), append(inverted, invertID(id))
	}
	if !slices.IsSorted(ids) {
		t.Error("ids do not sort by their time")
	}
	slices.Reverse(inverted)
	if !slices.IsSorted(inverted) {
		t.Error("inverted ids do not sort newest first")
	}
	if len(slices.Compact(ids)) != 200 {
		t.Error("an id was made twice")
	}
	for _, bad := range []string{
		"", "short", ids[0] + "0", strings.Repeat("u", recordingIDBytes), "../../../../../../../../..",
	} {
		if isRecordingID(bad) {
			t.Errorf("%q is taken for a recording id", bad)
		}
	}
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
	account, id := strings.Repeat("a", AccountBytesMax), strings.Repeat("i", IDBytesMax)
	d := Document{
		Account: account, ID: id,
		Prompt: strings.Repeat("p", promptBytesMax), Language: strings.Repeat("l", languageBytesMax),
	}
	const keyBytesMax = 1 << 10 // blobstore.KeyBytesMax
	for _, key := range []string{
		promptKey(&d), refKeyOf(&d), nameKey(account, id, newRecordingID(time.Now())), liveKey(account, id),
	} {
		if len(key) > keyBytesMax {
			t.Errorf("key of %d bytes: %.20q…", len(key), key)
		}
	}
}
