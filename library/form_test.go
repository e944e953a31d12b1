package library

import (
	"bytes"
	"errors"
	"math"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"carillon/audio"
	"carillon/library/naming"
)

// Goal: extension and parameters mean what the contract says, and what means
// nothing is refused.
func TestParseForm(t *testing.T) {
	t.Parallel()
	form := func(c audio.Container, rate, channels, bitRate int) Form {
		return Form{Form: audio.Form{Container: c, SampleRate: rate, Channels: channels, BitRate: bitRate}}
	}
	gain := func(f Form, dB float64) Form {
		f.GainDB, f.GainSet = dB, true
		return f
	}
	for _, c := range []struct {
		ext, query string
		want       Form
		bad        bool
	}{
		{ext: "", query: "", want: Form{}},
		{ext: ".wav", query: "", want: form("wav", 0, 0, 0)},
		{ext: ".wav", query: "rate=8000&channels=1", want: form("wav", 8000, 1, 0)},
		{ext: ".raw", query: "", want: form("raw", 8000, 1, 0)},
		{ext: ".raw", query: "rate=16000&channels=2", want: form("raw", 16000, 2, 0)},
		{ext: ".r8", want: form("raw", 8000, 1, 0)},
		{ext: ".r48", query: "channels=2", want: form("raw", 48000, 2, 0)},
		{ext: ".r16", query: "rate=16000", want: form("raw", 16000, 1, 0)},
		{ext: ".r16", query: "rate=8000", bad: true},
		{ext: ".ul", want: form("ulaw", 8000, 1, 0)},
		{ext: ".al", query: "rate=32000", want: form("alaw", 32000, 1, 0)},
		{ext: ".ulaw", want: form("ulaw", 8000, 1, 0)},
		{ext: ".alaw", want: form("alaw", 8000, 1, 0)},
		{ext: ".r24", want: form("raw24", 24000, 1, 0)},
		{ext: ".r32", query: "channels=2", want: form("raw32", 32000, 2, 0)},
		{ext: ".r24", query: "rate=8000", bad: true},
		{ext: ".mp3", query: "bitrate=32000", want: form("mp3", 0, 0, 32000)},
		{ext: ".wav", query: "bitrate=32000", bad: true},
		{ext: "", query: "gain=6", want: gain(Form{}, 6)},
		{ext: "", query: "gain=+6.2", want: gain(Form{}, 6)}, // an unescaped plus
		{ext: "", query: "gain=-0.1", want: gain(Form{}, 0)},
		{ext: "", query: "gain=0", want: gain(Form{}, 0)},
		{ext: ".mp3", query: "gain=-12", want: gain(form("mp3", 0, 0, 0), -12)},
		{ext: "", query: "gain=25", bad: true},
		{ext: "", query: "gain=NaN", bad: true},
		{ext: "", query: "gain=1e400", bad: true},
		{ext: "", query: "gain=loud", bad: true},
		{ext: "", query: "rate=7999", bad: true},
		{ext: "", query: "rate=-8000", bad: true},
		{ext: "", query: "rate=0", bad: true},
		{ext: "", query: "rate=08000000000000000000008000", bad: true},
		{ext: "", query: "channels=3", bad: true},
		{ext: "", query: "channels=mono", bad: true},
	} {
		q, err := url.ParseQuery(c.query)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseForm(c.ext, q.Get)
		if c.bad != errors.Is(err, ErrBadRequest) {
			t.Errorf("%s?%s: error %v", c.ext, c.query, err)
		}
		if diff := cmp.Diff(c.want, got); !c.bad && diff != "" {
			t.Errorf("%s?%s: %s", c.ext, c.query, diff)
		}
	}
}

// FuzzParseForm: nothing that a client can write makes more than a bounded
// number of forms.
func FuzzParseForm(f *testing.F) {
	f.Add(".raw", "rate=8000&channels=1")
	f.Add(".mp3", "gain=+3&bitrate=16000")
	f.Add("", "gain=-24&rate=44100")
	f.Add(".r8", "rate=%38000&channels=1&channels=2")
	f.Fuzz(func(t *testing.T, ext, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		got, err := ParseForm(ext, q.Get)
		if err != nil {
			if !errors.Is(err, ErrBadRequest) {
				t.Fatal(err)
			}
			return
		}
		if math.Abs(got.GainDB) > gainMax || got.GainDB != roundGain(got.GainDB) || got.Channels > 2 ||
			got.SampleRate > 48000 || got.SampleRate != 0 && got.SampleRate < 8000 {
			t.Fatalf("%+v", got)
		}
	})
}

func FuzzCutFormExt(f *testing.F) {
	for _, id := range []string{"a.raw", "a/b.r8", ".wav", "a/.mp3", "a.wav.ul", "a.WAV", "a.ulaw"} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		stem, ext := CutFormExt(id)
		if stem+ext != id || stem == "" && id != "" || ext != "" &&
			naming.CheckID(id) == nil && naming.CheckID(stem) != nil {
			t.Fatalf("%q is %q and %q", id, stem, ext)
		}
	})
}

func (l *Library) rendered(tb testing.TB, d *Document, ext, query string) (Rendition, []byte) {
	tb.Helper()
	q, err := url.ParseQuery(query)
	if err != nil {
		tb.Fatal(err)
	}
	f, err := ParseForm(ext, q.Get)
	if err != nil {
		tb.Fatal(err)
	}
	r, err := l.Render(tb.Context(), d, f)
	if err != nil {
		tb.Fatal(err)
	}
	rd, err := l.OpenRendition(tb.Context(), r)
	if err != nil {
		tb.Fatal(err)
	}
	return r, readAll(tb, rd)
}

// Goal: an item comes in each form with the length that was promised and the
// same validator on each node, and the samples are the source's.
func TestRender(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	deps := testDeps(local)
	deps.NodeID = "node-2"
	other := openLibrary(t, testConfig(), deps)
	sound := wavSound(8000)
	d := put(t, l, "acme", "x", sound, PutOptions{})
	seen := map[string]string{}
	for _, c := range []struct {
		ext, query, contentType string
		size                    int
		converted               bool
	}{
		{"", "", "audio/x-wav", len(sound), false},
		{".wav", "rate=8000&channels=1", "audio/x-wav", len(sound), false},
		{".wav", "rate=16000", "audio/x-wav", 44 + 32000, true},
		{".wav", "channels=2", "audio/x-wav", 44 + 32000, true},
		{".raw", "", "audio/x-raw", 16000, true},
		{".r16", "", "audio/x-raw", 32000, true},
		{".ul", "", "audio/basic", 8000, true},
		{".al", "rate=16000&channels=2", "audio/PCMA", 32000, true},
		{".ul", "gain=6", "audio/basic", 8000, true},
		{".r24", "", "audio/x-raw", 72000, true},
		{".r32", "", "audio/x-raw", 128000, true},
		{"", "gain=6", "audio/x-wav", len(sound), true},
	} {
		r, got := l.rendered(t, &d, c.ext, c.query)
		if r.Size != int64(c.size) || len(got) != c.size || r.ContentType != c.contentType ||
			r.Converted != c.converted {
			t.Errorf("%s?%s: %d and %d bytes of %s, converted %v", c.ext, c.query, r.Size, len(got), r.ContentType,
				r.Converted)
		}
		if same := seen[r.ETag()]; same != "" && c.converted {
			t.Errorf("%s?%s and %s have one validator", c.ext, c.query, same)
		}
		seen[r.ETag()] = c.ext + "?" + c.query
		again, bytesThere := other.rendered(t, &d, c.ext, c.query)
		if again.ETag() != r.ETag() || !bytes.Equal(got, bytesThere) {
			t.Errorf("%s?%s: differs between nodes", c.ext, c.query)
		}
	}
	if _, raw := l.rendered(t, &d, ".raw", ""); !bytes.Equal(raw, sound[44:]) {
		t.Error("raw is not what the WAV holds")
	}
}

// Goal: the account's gain counts unless the request says one, and does not
// take away what cannot be converted.
func TestDefaultGain(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	d := put(t, l, "acme", "x", wavSound(800), PutOptions{})
	if _, err := l.UpdateAccount(t.Context(), "acme", "", func(s *AccountSettings) error {
		s.GainDB = 6
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if r, _ := l.rendered(t, &d, "", ""); !r.Converted || r.Form.GainDB != 6 {
		t.Errorf("%+v", r.Form)
	}
	if r, _ := l.rendered(t, &d, "", "gain=0"); r.Converted {
		t.Errorf("%+v", r.Form)
	}
	ogg := d
	ogg.Audio = audio.Info{Format: audio.FormatOgg, Codec: "vorbis", SampleRate: 8000, Channels: 1}
	if r, err := l.Render(t.Context(), &ogg, Form{}); err != nil || r.Converted {
		t.Errorf("%v, %+v", err, r.Form)
	}
	asWAV := Form{Form: audio.Form{Container: "wav"}}
	if _, err := l.Render(t.Context(), &ogg, asWAV); !errors.Is(err, ErrNoForm) {
		t.Errorf("error %v", err)
	}
}

// Goal: a path finds the item under its id, without its extension and with
// another one, in this order.
func TestPlaying(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	put(t, l, "acme", "a", wavSound(80), PutOptions{})
	put(t, l, "acme", "b.wav", wavSound(80), PutOptions{})
	put(t, l, "acme", "b.raw", wavSound(80), PutOptions{})
	record(t, l, ticket(t, l, RecordingRequest{Account: "acme", Name: "rec.mp3"}), mp3Sound(3), EndedClean)
	for _, c := range []struct{ id, found, ext string }{
		{"a", "a", ""},
		{"a.wav", "a", ""},
		{"a.mp3", "a", ".mp3"},
		{"a.raw", "a", ".raw"},
		{"b.wav", "b.wav", ""},
		{"b.wav.r8", "b.wav", ".r8"},
		{"b.r8", "b.wav", ".r8"},
		{"b.raw", "b.raw", ""},
		{"rec.mp3", "rec.mp3", ""},
		{"rec.wav", "rec.mp3", ".wav"},
		{"rec.mp3.ul", "rec.mp3", ".ul"},
		{"rec.ulaw", "rec.mp3", ".ulaw"},
		{"c.wav", "", ""},
		{"a.ogg", "", ""},
	} {
		m, ext, err := l.Playing(t.Context(), "acme", c.id)
		found := ""
		switch {
		case m.Doc != nil:
			found = m.Doc.ID
		case m.Recording != nil:
			found = m.Recording.Name
		}
		if found != c.found || ext != c.ext || errors.Is(err, ErrNotFound) != (c.found == "") {
			t.Errorf("%s: %q as %q, %v", c.id, found, ext, err)
		}
	}
}
