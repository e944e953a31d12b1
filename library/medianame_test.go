package library

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"carillon/library/field"
	"carillon/library/libtest"
	"carillon/library/naming"
)

const kazooID = "4c1f8ee7a60bd59d8bc3ef8d7a3dbb77"

// TestMediaNames: every form of Kazoo's names, and what our own rules make of it.
func TestMediaNames(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	for _, name := range []ItemName{
		{kazooID, "media1"},
		{kazooID, "moh/jazz.mp3"},
		{kazooID, "50%25 off"},
		{kazooID, "tts/abc"},
		{"acme", "x"},
		{"system", "en-us/vm-hello"},
		{"system", "beep"},
		{"system", "x"},
		{"tmp", "x"},
	} {
		put(t, l, name.Account, name.ID, mp3Sound(3), PutOptions{})
	}
	put(t, l, "system", "s1", mp3Sound(3), PutOptions{Prompt: "vm-bye", Language: "en"})
	const db = "account/4c/1f/8ee7a60bd59d8bc3ef8d7a3dbb77"
	const month = db + "-202403"
	for _, c := range []struct{ name, account, want string }{
		{"x", "acme", "acme/x"},
		{"x", "", "system/x"},
		{"x", "other", "system/x"},
		{"beep", "acme", "system/beep"},
		{"acme/x", "other", "acme/x"},
		{"vm-bye", "acme", "system/s1"}, // a bare prompt id
		{"vm-hello", "", "system/en-us/vm-hello"},
		{"nothing", "acme", ""},
		{"/acme/x", "", "acme/x"},
		{"/acme/x", "other", "acme/x"},
		{"/other/x", "acme", ""},
		{"/" + kazooID + "/media1", "", kazooID + "/media1"},
		{"/" + db + "/media1", "", kazooID + "/media1"},
		{"/" + month + "/media1", "", kazooID + "/media1"},
		{"/account%2F4c%2F1f%2F8ee7a60bd59d8bc3ef8d7a3dbb77/media1", "", kazooID + "/media1"},
		{"/account%2f4c%2f1f%2f8ee7a60bd59d8bc3ef8d7a3dbb77/moh%2fjazz.mp3", "", kazooID + "/moh/jazz.mp3"},
		{db + "/media1", "acme", kazooID + "/media1"},
		{"/" + kazooID + "/media1/upload_63.mp3", "", kazooID + "/media1"}, // an attachment
		{"/" + kazooID + "/moh/jazz.mp3", "", kazooID + "/moh/jazz.mp3"},
		{"/" + kazooID + "/moh/jazz.mp3/more.mp3", "", ""},
		{"/" + kazooID + "/50%25 off", "", kazooID + "/50%25 off"}, // as it is
		{"/" + kazooID + "/50%2525 off", "", kazooID + "/50%25 off"},
		{"/" + kazooID + "/bad%zz", "", ""},
		{"/system_media/en-us/vm-hello", "acme", "system/en-us/vm-hello"},
		{"/system_media/en-us%2Fvm-hello", "", "system/en-us/vm-hello"},
		{"system_media/en-us/vm-hello", "acme", "system/en-us/vm-hello"},
		{"/system_media/en-us/vm-bye", "", "system/s1"}, // by its fields, in the short form of the language
		{"/system_media/beep", "", "system/beep"},
		{"beep", "system_media", "system/beep"},
		{"prompt://system_media/vm-hello", "", "system/en-us/vm-hello"},
		{"prompt://" + kazooID + "/vm-hello/EN-US", "", "system/en-us/vm-hello"},
		{"prompt://" + db + "/vm-bye/en-gb", "", "system/s1"},
		{"prompt://account%2F4c%2F1f%2F8ee7a60bd59d8bc3ef8d7a3dbb77/vm-bye", "", "system/s1"},
		{"tts://abc", kazooID, kazooID + "/tts/abc"},
		{"media1", db, kazooID + "/media1"},
		{"media1", month, kazooID + "/media1"},
		{"media1", "account%2F4c%2F1f%2F8ee7a60bd59d8bc3ef8d7a3dbb77", kazooID + "/media1"},
		{"tts://abc", "acme", ""},
	} {
		got, err := l.Lookup(t.Context(), LookupRequest{Name: c.name, Account: c.account})
		if c.want == "" {
			libtest.WantErr(t, c.name, err, ErrNotFound)
			continue
		}
		if err != nil || got.Account+"/"+got.ID != c.want {
			t.Errorf("%s in %q is %s/%s, %v, want %s", c.name, c.account, got.Account, got.ID, err, c.want)
		}
	}
	for _, name := range []string{
		"silence_stream://5", "silence", "tone_stream://%(500,500,480,620)", "say:hello", "${hold_music}", "$x",
		"local_stream://moh", "http://a/b?c@d", "https://a", "http_cache://http://a/b.wav", "shout://h/x.mp3",
		"/tmp/x.wav", "phrase:a,b", "shell_stream:///x y",
	} {
		got, err := l.Lookup(t.Context(), LookupRequest{Name: name, Account: "acme"})
		if diff := cmp.Diff(Lookup{StreamURL: name, FreeSWITCH: name}, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
	for _, name := range []string{
		"prompt://", "prompt://acme", "prompt://acme/", "prompt://a b/c", "prompt://acme/a/b/c",
		"prompt://acme/a/b c", "/", "//", "/acme", "/acme/", "/a b/c", "a//b", "../x", "/acme/../x", "x\x00",
		"tts://", "tts://..", "file_string://a!file_string://b", strings.Repeat("x", lookupNameBytesMax+1),
		"file_string://" + strings.Repeat("a!", macroPartsMax),
	} {
		_, err := l.Lookup(t.Context(), LookupRequest{Name: name})
		libtest.WantErr(t, name, err, ErrBadName)
	}
	_, err := l.Lookup(t.Context(), LookupRequest{Name: "tts://abc"})
	if err == nil || !strings.Contains(err.Error(), "not synthesised here") {
		t.Errorf("speech: %v", err)
	}
	_, err = l.Lookup(t.Context(), LookupRequest{Name: "x", Player: "vlc", Language: "a b"})
	libtest.Equal(t, "unknown player", fieldCode(err, "player"), field.Unknown)
	libtest.Equal(t, "no language", fieldCode(err, "language"), field.Invalid)
}

// TestPromptsOfParents: an account hears its own prompts, then those of the
// accounts above it, then the system's, in each language in turn.
func TestPromptsOfParents(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	setAccount(t, l, "child", func(s *AccountSettings) { s.Parent = "reseller" })
	setAccount(t, l, "reseller", func(s *AccountSettings) { s.Parent, s.Language = "top", "fr-ca" })
	for _, p := range []struct{ account, prompt, language string }{
		{"system", "hello", "en-us"},
		{"system", "hello", "fr"},
		{"system", "bye", "en-us"},
		{"reseller", "hello", "en"},
		{"top", "hello", "fr-ca"},
		{"top", "bye", "de"},
		{"child", "private", "de"},
	} {
		put(t, l, p.account, p.language+"/"+p.prompt, mp3Sound(3), PutOptions{
			Prompt: p.prompt, Language: p.language,
		})
	}
	for _, c := range []struct{ account, prompt, want string }{
		{"child", "hello", "top/fr-ca/hello"},         // its language is the reseller's
		{"child", "hello/en-us", "reseller/en/hello"}, // a short form of its own before the system's exact one
		{"reseller", "hello/fr", "system/fr/hello"},   // no short form serves a longer one
		{"child", "hello/de", "top/fr-ca/hello"},      // none in German: the account's language
		{"child", "bye/de-at", "top/de/bye"},          // two above
		{"child", "bye", "system/en-us/bye"},          // at last the system's default
		{"other", "hello", "system/en-us/hello"},      // without a parent
		{"child", "private", ""},                      // in a language that nobody speaks
		{"reseller", "private/de", ""},                // not from below
		{"system", "hello/fr-ca", "system/fr/hello"},  // the system itself
		{"child", "hello/fr-ca_x", "top/fr-ca/hello"}, // cut down step by step
		{"child", "hello/en-us_xx", "reseller/en/hello"},
	} {
		got, err := l.Lookup(t.Context(), LookupRequest{Name: "prompt://" + c.account + "/" + c.prompt})
		if c.want == "" {
			libtest.WantErr(t, c.prompt, err, ErrNotFound)
		} else if err != nil || got.Account+"/"+got.ID != c.want {
			t.Errorf("%s of %s is %s/%s, %v, want %s", c.prompt, c.account, got.Account, got.ID, err, c.want)
		}
	}
	got, err := l.Lookup(t.Context(), LookupRequest{Name: "prompt://system/hello", Account: "child"})
	if err != nil || got.Account+"/"+got.ID != "system/fr/hello" {
		t.Errorf("system prompt in the language of the caller is %s, %v", got.ID, err)
	}
	// One language goes, the others stay.
	libtest.WantErr(t, "delete", l.Delete(t.Context(), "system", "fr/hello", ""), nil)
	got, err = l.Lookup(t.Context(), LookupRequest{Name: "prompt://other/hello/fr"})
	if err != nil || got.ID != "en-us/hello" {
		t.Errorf("prompt is %s, %v", got.ID, err)
	}
}

// TestFallbackSound: the account's, its parent's, the configured one; and 404
// where even that is not there.
func TestFallbackSound(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.FallbackSound = "tone_stream://%(500,500,480,620)"
	l := openLibrary(t, cfg, testDeps(libtest.OpenStore(t, t.TempDir())))
	put(t, l, "reseller", "sorry", mp3Sound(3), PutOptions{})
	setAccount(t, l, "reseller", func(s *AccountSettings) { s.Fallback = "/reseller/sorry" })
	setAccount(t, l, "child", func(s *AccountSettings) { s.Parent = "reseller" })
	setAccount(t, l, "broken", func(s *AccountSettings) { s.Fallback = "nowhere" })
	for _, c := range []struct{ name, account, want string }{
		{"nothing", "child", "sorry"},
		{"/child/nothing", "", "sorry"},
		{"prompt://child/nothing", "", "sorry"},
		{"nothing", "other", cfg.FallbackSound},
		{"nothing", "broken", ""},
	} {
		got, err := l.Lookup(t.Context(), LookupRequest{Name: c.name, Account: c.account})
		if c.want == "" {
			libtest.WantErr(t, c.name, err, ErrNotFound)
		} else if err != nil || !got.Fallback || got.ID != c.want && got.FreeSWITCH != c.want {
			t.Errorf("%s of %q is %+v, %v", c.name, c.account, got, err)
		}
	}
	_, err := l.Lookup(t.Context(), LookupRequest{Name: "a//b", Account: "child"})
	libtest.WantErr(t, "a bad name", err, ErrBadName)
	put(t, l, "child", "hidden", mp3Sound(3), PutOptions{Streamable: new(false)})
	got, err := l.Lookup(t.Context(), LookupRequest{Name: "hidden", Account: "child"})
	if err != nil || !got.Fallback {
		t.Errorf("what is not streamable is %+v, %v", got, err)
	}
	macro, err := l.Lookup(t.Context(), LookupRequest{
		Name: "file_string://nothing!silence_stream://5", Account: "child",
	})
	if err != nil || !macro.Fallback || macro.Parts[0].ID != "sorry" || macro.Parts[1].Fallback {
		t.Errorf("macro is %+v, %v", macro, err)
	}
}

// TestPlayerStrings: what each module of FreeSWITCH can play of what is stored.
func TestPlayerStrings(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	put(t, l, "acme", "song!, @{1}", mp3Sound(10), PutOptions{})
	put(t, l, "acme", "tone.wav", wavSound(100), PutOptions{})
	long := strings.Repeat("é", naming.IDBytesMax/2)
	put(t, l, "acme", long, wavSound(100), PutOptions{})
	for range 2 { // the second is found without searching
		for _, stream := range []string{"new", "extant"} {
			r := LookupRequest{Name: "tone.wav", Account: "acme", Stream: stream}
			want := map[string]Player{"new": PlayerHTTPCache, "extant": PlayerShout}
			libtest.Equal(t, "player of "+stream, libtest.Must[Lookup](t)(l.Lookup(t.Context(), r)).Player,
				want[stream])
		}
	}
	for _, c := range []struct {
		id            string
		player        Player
		before, after string
		played        Player
	}{
		{
			"song!, @{1}", "", "http_cache://http://127.0.0.1:8080/play/", "/song%21%2C%20%40%7B1%7D.mp3",
			PlayerHTTPCache,
		},
		{"tone.wav", PlayerHTTPCache, "http_cache://http://127.0.0.1:8080/play/", "/tone.wav", PlayerHTTPCache},
		{"tone.wav", PlayerHTTAPI, "http://127.0.0.1:8080/play/", "/tone.wav", PlayerHTTAPI},
		{"tone.wav", PlayerPlain, "http://127.0.0.1:8080/play/", "/tone.wav", PlayerPlain},
		{"song!, @{1}", PlayerShout, "shout://127.0.0.1:8080/play/", "/song%21%2C%20%40%7B1%7D.mp3", PlayerShout},
		{
			"tone.wav", PlayerShellStream, "shell_stream:///usr/local/bin/carillon-stream http://127.0.0.1:8080/play/",
			"/tone.wav.raw", PlayerShellStream,
		},
		{
			"song!, @{1}", PlayerShellStream,
			"shell_stream:///usr/local/bin/carillon-stream http://127.0.0.1:8080/play/",
			"/song%21%2C%20%40%7B1%7D.raw", PlayerShellStream,
		},
		{"tone.wav", PlayerShout, "shout://127.0.0.1:8080/play/", "/tone.wav.mp3", PlayerShout},
		{long, PlayerHTTPCache, "http_cache://http://127.0.0.1:8080/play/", ".wav", PlayerHTTPCache},
	} {
		got, err := l.Lookup(t.Context(), LookupRequest{Name: c.id, Account: "acme", Player: c.player})
		fs := got.FreeSWITCH
		if err != nil || !strings.HasPrefix(fs, c.before) || !strings.HasSuffix(fs, c.after) ||
			got.Player != c.played || strings.ContainsAny(fs, "@?!,{}'\"$") || len(fs) > 1023 {
			t.Errorf("%q for %s is %s (%s), %v", c.id, c.player, fs, got.Player, err)
		}
	}
	_, err := l.Lookup(t.Context(), LookupRequest{
		Name: "file_string://tone.wav!tone_stream://%(1,0,440)!/acme/song!", Account: "acme",
	})
	libtest.WantErr(t, "a macro that a name with '!' breaks", err, ErrNotFound)
	got, err := l.Lookup(t.Context(), LookupRequest{
		Name:    "file_string://tone.wav!tone_stream://%(1,0,440)!!/acme/tone.wav",
		Account: "acme", Player: PlayerPlain,
	})
	parts := strings.Split(strings.TrimPrefix(got.FreeSWITCH, macroScheme), "!")
	if err != nil || len(parts) != 4 || len(got.Parts) != 4 || parts[1] != "tone_stream://%(1,0,440)" ||
		parts[2] != silenceName || parts[0] != got.Parts[0].StreamURL || parts[3] != parts[0] ||
		got.DurationMS != 2*got.Parts[0].DurationMS {
		t.Errorf("macro is %+v, %v", got, err)
	}
}

// TestLookupAll: each by itself, in order; and what another node has just
// written is found by asking once.
func TestLookupAll(t *testing.T) {
	t.Parallel()
	l, f := newFaulty(t)
	ctx := t.Context()
	begin := lag(t, f, mediaKey("acme", "x"), mediaKey("acme", "y"))
	put(t, l, "acme", "x", mp3Sound(3), PutOptions{})
	put(t, l, "acme", "y", mp3Sound(3), PutOptions{})
	begin()
	got := libtest.Must[[]LookupResult](t)(l.LookupAll(ctx, []LookupRequest{
		{Name: "silence"},
		{Name: "a//b"},
		{Name: "x", Account: "acme"},
		{Name: "nothing"},
		{Name: "y", Account: "acme"},
		{Name: "x", Account: "acme", Consistency: Linearizable},
	}))
	for i, want := range []struct {
		id  string
		err error
	}{{"", nil}, {"", ErrBadName}, {"x", nil}, {"", ErrNotFound}, {"y", nil}, {"x", nil}} {
		libtest.WantErr(t, got[i].Lookup.ID, got[i].Err, want.err)
		libtest.Equal(t, "id", got[i].Lookup.ID, want.id)
	}
	_, err := l.LookupAll(ctx, make([]LookupRequest, LookupBatchMax+1))
	libtest.Equal(t, "too many", fieldCode(err, "lookups"), field.TooLong)
}

// FuzzPlaces: whatever a name is, it leads to a handful of well formed places,
// or is refused as one.
func FuzzPlaces(f *testing.F) {
	for _, s := range []string{
		"a", "/a/b", "/a/b/c", "prompt://a/b/c", "prompt://account%2Fab%2Fcd%2Fef/x", "tts://x",
		"/system_media/en/x",
		"/account/4c/1f/8ee7a60bd59d8bc3ef8d7a3dbb77-202403/x", "account/", "%2F", "/%2e%2e/%2e%2e", "%00", "a%25",
		"/account/4c/1f/8ee7a60bd59d8bc3ef8d7a3dbb77-", "/account/4c/1f/8ee7a60bd59d8bc3ef8d7a3dbb77",
	} {
		f.Add(s, "acme")
	}
	f.Fuzz(func(t *testing.T, name, account string) {
		if naming.CheckAccount(account) != nil || !naming.IsPlain(name) || name == "" {
			return
		}
		where, err := places(&LookupRequest{Name: name, Account: account})
		if err == nil && len(where) == 0 || len(where) > 10 {
			t.Fatalf("%q leads to %d places, %v", name, len(where), err)
		}
		if err != nil && FaultOf(err).Code != "bad_name" {
			t.Fatal(err)
		}
		for _, p := range where {
			if naming.CheckAccount(p.account) != nil || p.prompt == "" && naming.CheckID(p.id) != nil ||
				p.prompt != "" && checkPrompt(p.prompt, p.language) != nil {
				t.Fatalf("%q leads to %+v", name, p)
			}
		}
	})
}

// FuzzLanguageKeys: the keys get shorter and each begins the one before.
func FuzzLanguageKeys(f *testing.F) {
	for _, s := range []string{"", "en", "en-us", "aa-bb_cc-dd", "_", "-", "a_-b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, language string) {
		keys := languageKeys(language)
		for i, key := range keys {
			if key == "" || i > 2 || i > 0 && (len(key) >= len(keys[i-1]) || !strings.HasPrefix(keys[i-1], key)) {
				t.Fatalf("%q has keys %q", language, keys)
			}
		}
	})
}

// TestSpelledPlaces: an escaped name leads where the plain one leads.
func TestSpelledPlaces(t *testing.T) {
	t.Parallel()
	segment := rapid.StringMatching(`[a-zA-Z0-9 _.éß@!-]{1,20}`).Filter(func(s string) bool {
		return naming.CheckID(s) == nil
	})
	rapid.Check(t, func(t *rapid.T) {
		account, id := "acme", segment.Draw(t, "a")+"/"+segment.Draw(t, "b")+"/"+segment.Draw(t, "c")
		plain, err := places(&LookupRequest{Name: "/" + account + "/" + id})
		if err != nil {
			t.Fatal(err)
		}
		escaped := "/" + account + "/" + strings.ReplaceAll(escapePath(id), "/", "%2F")
		coded, err := places(&LookupRequest{Name: escaped})
		if err != nil || coded[len(coded)-1] != plain[len(plain)-1] {
			t.Fatalf("%s leads to %+v, %s to %+v, %v", id, plain, escaped, coded, err)
		}
	})
}
