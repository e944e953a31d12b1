package library

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"carillon/audio"
	"carillon/library/field"
	"carillon/library/libtest"
	"carillon/library/naming"
	"carillon/library/station"
)

// toneWAV is a tone of so many samples at 8 kHz.
func toneWAV(hz float64, samples int) []byte {
	b := wavSound(samples)
	for i := range samples {
		v := int16(8000 * math.Sin(2*math.Pi*hz*float64(i)/8000))
		binary.LittleEndian.PutUint16(b[44+2*i:], uint16(v))
	}
	return b
}

func putPlaylist(t *testing.T, l *Library, p Playlist) Playlist {
	t.Helper()
	p, _, err := l.PutPlaylist(t.Context(), p, "", "")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Goal: a program has what can be had of its items, at one rate, and what names
// its order if it is shuffled.
func TestProgram(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	for i, n := range []int{800, 1500, 1} {
		put(t, l, "acme", fmt.Sprintf("song%d", i), wavSound(n), PutOptions{Name: fmt.Sprintf("%.*s", i, "AB")})
	}
	items := []string{"song0", "none", "song1", "/acme/song2"}
	putPlaylist(t, l, Playlist{Account: "acme", ID: "moh", Items: items})
	putPlaylist(t, l, Playlist{Account: "acme", ID: "mix", Items: items, Shuffle: true})
	putPlaylist(t, l, Playlist{Account: "acme", ID: "empty", Items: []string{"none"}})
	for _, c := range []struct{ id, shuffle string }{{"moh", ""}, {"mix", "acme/mix"}} {
		p := libtest.Must[station.Program](t)(programs{l}.Program(t.Context(), "acme", c.id, station.Form{}))
		libtest.Equal(t, "order of "+c.id, p.Shuffle, c.shuffle)
		libtest.Equal(t, "rate of "+c.id, p.SampleRate, 8000)
		var got []string
		for _, piece := range p.Pieces {
			got = append(got, fmt.Sprintf("%s %d", piece.Title, piece.Samples))
		}
		if want := []string{"song0 800", "A 1500", "AB 1"}; !slices.Equal(got, want) {
			t.Errorf("%s plays %q, want %q", c.id, got, want)
		}
	}
	_, err := programs{l}.ProgramNow(t.Context(), "acme", "empty", station.Form{})
	libtest.WantErr(t, "a playlist of nothing", err, ErrNotFound)
}

// Goal: listeners of two nodes who join at other moments hear the same, and
// what they hear is the item, without a gap, round and round. Method: virtual
// time; the MP3 is decoded and its tone looked for.
func TestStation(t *testing.T) {
	local := libtest.OpenStore(t, t.TempDir())
	one := openLibrary(t, testConfig(), testDeps(local))
	other := openLibrary(t, testConfig(), testDeps(local))
	put(t, one, "acme", "tone", toneWAV(440, 8000*5/4), PutOptions{Name: "A"})
	s := libtest.Must[station.Tuned](t)(one.Tune(t.Context(), "acme", "tone", Form{}))
	if from, to, ended := s.Ring.Span(); s.Offset < from || ended || s.Ring.Title() != "A" ||
		to-s.Offset < int64(BurstDefault.Seconds()*float64(s.ByteRate)) {
		t.Fatalf("begins at %d of %d to %d, title %q", s.Offset, from, to, s.Ring.Title())
	}
	again := libtest.Must[station.Tuned](t)(one.Tune(t.Context(), "acme", "tone", Form{}))
	if again.Ring != s.Ring {
		t.Fatal("a second listener has a station of his own")
	}
	far := libtest.Must[station.Tuned](t)(other.Tune(t.Context(), "acme", "tone.mp3", Form{}))
	libtest.WaitFor(t, "six seconds of sound", func() bool {
		_, to, _ := far.Ring.Span()
		_, here, _ := s.Ring.Span()
		return to > int64(6*far.ByteRate) && here > int64(6*s.ByteRate)
	})
	here, there := soundOf(s), soundOf(far)
	// Both begin at frames of one clock: the later is in the earlier.
	const frameBytes = 576 * 4 / 8 // at 8 kHz and 32 kbit/s
	begin := there[:20*frameBytes]
	if !bytes.Contains(here, begin) {
		t.Error("two nodes play other bytes")
	}
	checkTone(t, here)
	for _, x := range []station.Tuned{s, again, far} {
		x.Leave()
	}
}

func soundOf(s station.Tuned) []byte {
	from, to, _ := s.Ring.Span()
	p := make([]byte, to-from)
	return p[:s.Ring.ReadAt(p, from)]
}

// checkTone decodes MP3 and looks for 440 Hz in every tenth of a second.
func checkTone(t *testing.T, mp3 []byte) {
	t.Helper()
	info := audio.Info{
		Format: audio.FormatMP3, Codec: "mp3_mpeg25_layer3", SampleRate: 8000, Channels: 1, Samples: -1,
	}
	d, err := audio.NewDecoder(bytes.NewReader(mp3), info)
	if err != nil {
		t.Fatal(err)
	}
	var pcm []int16
	buf := make([]int16, 1000)
	for {
		n, err := d.Read(buf)
		pcm = append(pcm, buf[:n]...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const window = 800
	for at := 2 * window; at+window < len(pcm); at += window {
		re, im, all := 0.0, 0.0, 0.0
		for i, v := range pcm[at : at+window] {
			x := 2 * math.Pi * 440 * float64(i) / 8000
			re += float64(v) * math.Cos(x)
			im += float64(v) * math.Sin(x)
			all += float64(v) * float64(v)
		}
		level := 2 * math.Hypot(re, im) / window
		if level < 7000 || level > 9000 {
			t.Fatalf("the tone has %.0f at %d of %d, want 8000", level, at, len(pcm))
		}
	}
}

// Goal: a station follows what its item becomes, and ends when it is gone or
// when nobody has listened for long.
func TestStationChanges(t *testing.T) {
	const check = 5 * time.Second // how often a station looks
	synctest.Test(t, func(t *testing.T) {
		local := libtest.OpenStore(t, t.TempDir())
		deps := testDeps(local)
		l, err := Open(t.Context(), testConfig(), deps)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}()
		put(t, l, "acme", "a", wavSound(8000), PutOptions{Name: "first"})
		s, err := l.Tune(t.Context(), "acme", "a", Form{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		_, to, _ := s.Ring.Span()
		want := int64((10 + BurstDefault.Seconds()) * float64(s.ByteRate))
		if to < want || to > want+int64(s.ByteRate) {
			t.Errorf("%d bytes after ten seconds, want %d", to, want)
		}
		put(t, l, "acme", "a", wavSound(12345), PutOptions{Name: "second"})
		time.Sleep(2 * check)
		if title := s.Ring.Title(); title != "second" {
			t.Errorf("plays %q", title)
		}
		s.Leave()
		time.Sleep(StationIdleDefault / 2)
		same, err := l.Tune(t.Context(), "acme", "a", Form{})
		if _, to, _ := s.Ring.Span(); err != nil || same.Ring != s.Ring || to-same.Offset < int64(s.ByteRate) {
			t.Errorf("not joined: %v, begins at %d of %d", err, same.Offset, to)
		}
		time.Sleep(2 * StationIdleDefault)
		if _, _, ended := s.Ring.Span(); ended {
			t.Error("ended with a listener")
		}
		same.Leave()
		time.Sleep(2 * StationIdleDefault)
		if _, _, ended := s.Ring.Span(); !ended {
			t.Error("goes on without a listener")
		}
		s, err = l.Tune(t.Context(), "acme", "a", Form{})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Delete(t.Context(), "acme", "a", ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * check)
		if _, _, ended := s.Ring.Span(); !ended {
			t.Error("goes on without its item")
		}
		s.Leave()
		if _, err := l.Tune(t.Context(), "acme", "a", Form{}); !errors.Is(err, ErrNotFound) {
			t.Errorf("error %v", err)
		}
	})
}

// Goal: playlists are stored, changed under conditions, listed, removed, and
// refused with the field that is wrong.
func TestPlaylists(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	p := putPlaylist(t, l, Playlist{Account: "acme", ID: "moh/day", Name: "Day", Items: []string{"a", "/b/c"}})
	if _, _, err := l.PutPlaylist(t.Context(), p, "", "*"); !errors.Is(err, ErrPrecondition) {
		t.Errorf("error %v", err)
	}
	p.Shuffle = true
	p2, created, err := l.PutPlaylist(t.Context(), p, p.ETag(), "")
	if err != nil || created || p2.Revision <= p.Revision || !p2.Created.Equal(p.Created) {
		t.Errorf("%v, %v, %+v", err, created, p2)
	}
	got, err := l.Playlist(t.Context(), "acme", "moh/day")
	if err != nil || !got.Shuffle || got.Revision != p2.Revision || len(got.Items) != 2 {
		t.Errorf("%v, %+v", err, got)
	}
	for _, bad := range []Playlist{
		{Account: "acme", ID: "x"},
		{Account: "acme", ID: "x", Items: []string{"x"}},
		{Account: "acme", ID: "x", Items: []string{"/nothing"}},
		{Account: "acme", ID: "x", Items: make([]string, PlaylistItemsMax+1)},
	} {
		var fields field.Errors
		if _, _, err := l.PutPlaylist(t.Context(), bad, "", ""); !errors.As(err, &fields) || len(fields) == 0 {
			t.Errorf("%v: %v", bad.Items[:min(len(bad.Items), 3)], err)
		}
	}
	putPlaylist(t, l, Playlist{Account: "acme", ID: "b", Items: []string{"a"}})
	list, next, err := l.ListPlaylists(t.Context(), "acme", "", 1)
	if err != nil || len(list) != 1 || list[0].ID != "b" || next != "b" {
		t.Errorf("%v, %+v, %q", err, list, next)
	}
	list, next, err = l.ListPlaylists(t.Context(), "acme", next, 1)
	if err != nil || len(list) != 1 || next != "" {
		t.Errorf("%v, %+v, %q", err, list, next)
	}
	if err := l.DeletePlaylist(t.Context(), "acme", "b", `"1"`); !errors.Is(err, ErrPrecondition) {
		t.Errorf("error %v", err)
	}
	if err := l.DeletePlaylist(t.Context(), "acme", "b", ""); err != nil {
		t.Error(err)
	}
	if _, err := l.Playlist(t.Context(), "acme", "b"); !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v", err)
	}
}

// Goal: a lookup of a continuous stream gives a signed URL whose token is good
// for the stream only.
func TestLookupExtant(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	put(t, l, "acme", "a", wavSound(800), PutOptions{})
	putPlaylist(t, l, Playlist{Account: "acme", ID: "moh", Items: []string{"a"}})
	for _, r := range []LookupRequest{
		{Name: "a", Account: "acme", Stream: "extant"}, {Name: "moh", Account: "acme"},
	} {
		got, err := l.Lookup(t.Context(), r)
		if err != nil || got.Type != "audio/mpeg" {
			t.Fatalf("%v, %+v", err, got)
		}
		token := tokenOf(t, got.StreamURL)
		account, id, ok, err := l.OpenStream(t.Context(), token)
		if err != nil || !ok || account != "acme" || id != r.Name {
			t.Errorf("%q %q %v %v", account, id, ok, err)
		}
		if _, err := l.OpenPlay(t.Context(), token); !errors.Is(err, ErrBadToken) {
			t.Errorf("error %v", err)
		}
		r.Protocol = "shout"
		if got, err = l.Lookup(t.Context(), r); err != nil ||
			got.StreamURL != "shout://127.0.0.1:8000/acme/"+r.Name+".mp3?stream=extant" {
			t.Errorf("%v, %+v", err, got)
		}
	}
	item, err := l.Lookup(t.Context(), LookupRequest{Name: "a", Account: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, ok, err := l.OpenStream(t.Context(), tokenOf(t, item.StreamURL)); ok || err != nil {
		t.Errorf("%v %v", ok, err)
	}
}

func tokenOf(t *testing.T, url string) string {
	t.Helper()
	_, rest, found := strings.Cut(url, "/play/")
	token, _, ok := strings.Cut(rest, "/")
	if !found || !ok {
		t.Fatalf("%s has no token", url)
	}
	return token
}

// FuzzPlaylist: what passes the check is a place that can be looked up.
func FuzzPlaylist(f *testing.F) {
	f.Add("a", "/b/c", "x")
	f.Add("..", "/", "")
	f.Add("a\x00", "//", "\xff")
	f.Fuzz(func(t *testing.T, one, two, name string) {
		p := Playlist{Account: "acme", ID: "p", Name: name, Items: []string{one, two}}
		if p.check() != nil {
			return
		}
		for _, name := range p.Items {
			if err := naming.CheckItem(p.place(name)); err != nil {
				t.Fatal(err)
			}
		}
	})
}
