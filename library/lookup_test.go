package library

import (
	"slices"
	"strings"
	"testing"

	"carillon/library/libtest"
	"carillon/library/playtoken"
)

// TestLookupNames: which item, of several with like names, a name means.
func TestLookupNames(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	mp3 := mp3Sound(10)
	for _, item := range []string{
		"acme|greeting", "system|greeting", "system|moh/jazz.mp3", "other|x/y.wav", "acme|x/y.wav", "acme|system/z",
	} {
		account, id, _ := strings.Cut(item, "|")
		sound := mp3
		if strings.HasSuffix(id, ".wav") {
			sound = wavSound(100)
		}
		put(t, l, account, id, sound, PutOptions{})
	}
	for _, c := range []struct{ name, account, want string }{
		{"greeting", "acme", "acme|greeting"},
		{"greeting", "other", "system|greeting"},
		{"greeting", "", "system|greeting"},
		{"moh/jazz.mp3", "acme", "system|moh/jazz.mp3"},
		{"x/y.wav", "acme", "acme|x/y.wav"},
		{"other/x/y.wav", "acme", "other|x/y.wav"},
		{"other/x/y.wav", "", "other|x/y.wav"},
		{"/other/x/y.wav", "acme", "other|x/y.wav"},
		{"/acme/system/z", "", "acme|system/z"},
		{"system/z", "acme", "acme|system/z"},
		{"greeting.mp3", "acme", "acme|greeting"},
		{"greeting.wav", "acme", ""},
		{"/other/greeting", "acme", ""},
		{"nothing", "acme", ""},
		{"nothing/at/all", "acme", ""},
	} {
		got, err := l.Lookup(t.Context(), LookupRequest{Name: c.name, Account: c.account})
		if c.want == "" {
			libtest.WantErr(t, c.name, err, ErrNotFound)
			continue
		}
		if err != nil || got.Account+"|"+got.ID != c.want {
			t.Errorf("%q for %q is %s|%s, %v, want %s", c.name, c.account, got.Account, got.ID, err, c.want)
		}
	}
	for _, bad := range []string{
		"../x", "/acme", "/", "/acme/../x", "a\x00b", "prompt://", "prompt://acme", "prompt://../x",
		strings.Repeat("x", 10<<10),
	} {
		_, err := l.Lookup(t.Context(), LookupRequest{Name: bad, Account: "acme"})
		libtest.WantErr(t, bad[:min(len(bad), 20)], err, ErrBadName)
	}
	for _, r := range []LookupRequest{
		{Name: "x", Stream: "both"},
		{Name: "x", Protocol: "ftp"},
		{Name: "x", Consistency: "some", Account: "acme"},
		{Name: "x", Language: "en us"},
	} {
		_, err := l.Lookup(t.Context(), r)
		libtest.WantErr(t, "bad field", err, ErrBadRequest)
	}
}

// TestLookupPassesThrough: what FreeSWITCH plays by itself is not touched, and
// no name is silence.
func TestLookupPassesThrough(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	for name, want := range map[string]string{
		"":                                   "silence_stream://5",
		"silence":                            "silence",
		"silence_stream://1000":              "silence_stream://1000",
		"tone_stream://%(400,200,400,450)":   "tone_stream://%(400,200,400,450)",
		"say:hello":                          "say:hello",
		"local_stream://moh":                 "local_stream://moh",
		"$${hold_music}":                     "$${hold_music}",
		"http://x/y.wav":                     "http://x/y.wav",
		"https://x/y.wav?a=b":                "https://x/y.wav?a=b",
		"http_cache://http://x/y.mp3":        "http_cache://http://x/y.mp3",
		"shout://u:p@127.0.0.1:8000/abc.mp3": "shout://u:p@127.0.0.1:8000/abc.mp3",
	} {
		got, err := l.Lookup(t.Context(), LookupRequest{Name: name, Account: "acme"})
		if err != nil || got.StreamURL != want || got.FreeSWITCH != want {
			t.Errorf("%q is %+v, %v, want %s", name, got, err, want)
		}
	}
}

// TestLookupPrompts: the order in which languages and accounts are searched.
func TestLookupPrompts(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	mp3 := mp3Sound(10)
	for _, item := range []struct{ account, id, prompt, language string }{
		{"system", "1", "hello", "en-us"},
		{"system", "2", "hello", "fr"},
		{"system", "3", "hello", "de-de"},
		{"acme", "4", "hello", "de"},
		{"acme", "5", "hello", ""}, // the default: en-us
		{"acme", "6", "hello", "es-es"},
		{"system", "en-us/by-id", "", ""},
		{"system", "en-us/with-ext.mp3", "", ""},
	} {
		put(t, l, item.account, item.id, mp3, PutOptions{Prompt: item.prompt, Language: item.language})
	}
	for _, c := range []struct{ name, language, want string }{
		{"prompt://acme/hello/de-de", "", "4"},     // its own, in the short form
		{"prompt://other/hello/de-de", "", "3"},    // the system's
		{"prompt://acme/hello/fr-ca", "", "2"},     // the system in the language asked for
		{"prompt://acme/hello/pt", "", "5"},        // its own default
		{"prompt://other/hello/pt", "", "1"},       // the system's default
		{"prompt://acme/hello", "ES-es", "6"},      // language of the request
		{"prompt://acme/hello/FR", "es-es", "2"},   // the name's language counts
		{"prompt://acme/hello/es-es_de", "", "6"},  // cut down step by step
		{"prompt://acme/hello", "", "5"},           // none given
		{"prompt://acme/by-id", "", "en-us/by-id"}, // by habit of naming
		{"prompt://acme/with-ext/en-us", "", "en-us/with-ext.mp3"},
		{"prompt://acme/nothing", "", ""},
	} {
		got, err := l.Lookup(t.Context(), LookupRequest{Name: c.name, Language: c.language, Account: "ignored"})
		if c.want == "" {
			libtest.WantErr(t, c.name, err, ErrNotFound)
		} else if err != nil || got.ID != c.want {
			t.Errorf("%s in %q is %s, %v, want %s", c.name, c.language, got.ID, err, c.want)
		}
	}
}

func TestLanguageKeys(t *testing.T) {
	t.Parallel()
	for language, want := range map[string][]string{
		"":            nil,
		"en":          {"en"},
		"en-us":       {"en-us", "en"},
		"aa-bb_cc-dd": {"aa-bb_cc-dd", "aa-bb", "aa"},
		"-x":          {"-x"},
	} {
		if got := languageKeys(language); !slices.Equal(got, want) {
			t.Errorf("languageKeys(%q) = %q, want %q", language, got, want)
		}
	}
}

// TestPlay follows a looked-up URL: it is the same at each lookup, survives an
// edit of the description, and ends when other bytes take the item's place.
func TestPlay(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	ctx := t.Context()
	d := put(t, l, "acme", "x", mp3Sound(10), PutOptions{})
	got, err := l.Lookup(ctx, LookupRequest{Name: "x", Account: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	token, found := strings.CutPrefix(got.StreamURL, "http://127.0.0.1:8080/play/")
	token, file, _ := strings.Cut(token, "/")
	if !found || file != "x.mp3" || got.FreeSWITCH != "http_cache://"+got.StreamURL || got.SHA256 != d.SHA256 ||
		got.Type != "audio/mpeg" || got.DurationMS != 10*mp3FrameMS || got.Revision != d.Revision {
		t.Errorf("answer is %+v", got)
	}
	again := libtest.Must[Lookup](t)(l.Lookup(ctx, LookupRequest{Name: "x", Account: "acme"}))
	libtest.Equal(t, "URL of the second answer", again.StreamURL, got.StreamURL)
	name := "n"
	if _, err := l.Update(ctx, "acme", "x", Patch{Name: &name}); err != nil {
		t.Fatal(err)
	}
	if played, err := l.OpenPlay(ctx, token); err != nil || played.Blob != d.Blob {
		t.Errorf("play after an edit: %v", err)
	}
	put(t, l, "acme", "x", mp3Sound(10), PutOptions{})
	_, err = l.OpenPlay(ctx, token)
	libtest.WantErr(t, "play after a replacement", err, ErrGone)
	if err := l.Delete(ctx, "acme", "x", ""); err != nil {
		t.Fatal(err)
	}
	_, err = l.OpenPlay(ctx, token)
	libtest.WantErr(t, "play after deletion", err, ErrNotFound)
	_, err = l.OpenPlay(ctx, token+"x")
	libtest.WantErr(t, "play with a changed token", err, ErrBadToken)
	old := playtoken.Token{Account: "acme", ID: "x", Expiry: d.Created.Add(-1)}
	_, err = l.OpenPlay(ctx, libtest.Must[string](t)(l.tokens.Sign(ctx, old)))
	libtest.WantErr(t, "play with an old token", err, ErrExpired)
}

// TestShoutProtocol: MP3 is offered by SHOUT, a WAV is not, because mod_shout
// would play it as noise.
func TestShoutProtocol(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	put(t, l, "acme", "song one", mp3Sound(10), PutOptions{})
	put(t, l, "acme", "tone.wav", wavSound(10), PutOptions{})
	got, err := l.Lookup(t.Context(), LookupRequest{Name: "song one", Account: "acme", Protocol: "shout"})
	const want = "shout://127.0.0.1:8000/acme/song%20one.mp3"
	if err != nil || got.StreamURL != want || got.FreeSWITCH != want {
		t.Errorf("answer is %+v, %v", got, err)
	}
	m, err := l.Mount(t.Context(), "acme", "song one.mp3")
	if err != nil || m.Doc == nil || m.Doc.ID != "song one" {
		t.Errorf("mount is %+v, %v", m, err)
	}
	got, err = l.Lookup(t.Context(), LookupRequest{Name: "tone.wav", Account: "acme", Protocol: "shout"})
	if err != nil || !strings.HasPrefix(got.FreeSWITCH, "http_cache://http://") {
		t.Errorf("answer is %+v, %v", got, err)
	}
}

// TestPromptOwner: the newest document that says it is a prompt is the prompt,
// and another that stops saying so does not take that from it.
func TestPromptOwner(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	opts := PutOptions{Prompt: "hello", Language: "en-us"}
	put(t, l, "acme", "old", mp3Sound(3), opts)
	put(t, l, "acme", "new", mp3Sound(3), opts)
	if err := l.Delete(t.Context(), "acme", "old", ""); err != nil {
		t.Fatal(err)
	}
	got, err := l.Lookup(t.Context(), LookupRequest{Name: "prompt://acme/hello/en-us"})
	if err != nil || got.ID != "new" {
		t.Errorf("prompt is %q, %v", got.ID, err)
	}
	none := ""
	if _, err := l.Update(t.Context(), "acme", "new", Patch{Prompt: &none}); err != nil {
		t.Fatal(err)
	}
	_, err = l.Lookup(t.Context(), LookupRequest{Name: "prompt://acme/hello/en-us"})
	libtest.WantErr(t, "prompt that is none any more", err, ErrNotFound)
	if left := libtest.Keys(t, local, promptPrefix); len(left) != 0 {
		t.Errorf("index rows are left: %q", left)
	}
}

// FuzzLookupNames: no name makes the search panic or leave the accounts' rules.
func FuzzLookupNames(f *testing.F) {
	for _, s := range []string{
		"", "a", "/a/b", "prompt://a/b/c", "prompt:///", "say:", "http://", "a/../b", "\xff", "$",
	} {
		f.Add(s, "acme", "en-us")
	}
	local := libtest.OpenStore(f, f.TempDir())
	l := openLibrary(f, testConfig(), testDeps(local))
	f.Fuzz(func(t *testing.T, name, account, language string) {
		answer, err := l.Lookup(t.Context(), LookupRequest{
			Name: name, Account: account, Language: language, Consistency: Local,
		})
		switch {
		case err == nil && name != "" && answer.StreamURL != name:
			t.Fatalf("%q is %+v in an empty library", name, answer)
		case err != nil && FaultOf(err).Status >= 500:
			t.Fatal(err)
		}
	})
}
