package library

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"carillon/audio"
	"carillon/library/libtest"
	"carillon/library/naming"
)

func sampleToken() playToken {
	return playToken{
		version: tokenVersion,
		account: "acme", id: "moh/jazz.mp3", blob: [8]byte{1, 2, 3}, expiry: time.Unix(1_900_000_000, 0),
	}
}

// TestTokens: what was signed comes back; any change of a character, any other
// key, and anything else is refused.
func TestTokens(t *testing.T) {
	t.Parallel()
	key := []byte("0123456789abcdef0123456789abcdef")
	want := sampleToken()
	text := want.sign(key)
	got, err := parseToken(key, text)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("token came back as %+v, want %+v", got, want)
	}
	if _, err := parseToken([]byte("other"), text); !errors.Is(err, ErrBadToken) {
		t.Errorf("other key: %v, want ErrBadToken", err)
	}
	for i := range len(text) {
		for _, c := range []byte{'A', 'z', '_', '=', '/', 0} {
			changed := []byte(text)
			if changed[i] == c {
				continue
			}
			changed[i] = c
			if _, err := parseToken(key, string(changed)); !errors.Is(err, ErrBadToken) {
				t.Fatalf("character %d changed to %q: %v, want ErrBadToken", i, c, err)
			}
		}
	}
	for _, bad := range []string{"", "x", text[1:], text + "A", text + "\n", strings.Repeat("A", 10<<10)} {
		if _, err := parseToken(key, bad); !errors.Is(err, ErrBadToken) {
			t.Errorf("%.20q…: %v, want ErrBadToken", bad, err)
		}
	}
}

// TestTokenExpiry: one URL for a whole life, good for a life at least.
func TestTokenExpiry(t *testing.T) {
	t.Parallel()
	const life = time.Hour
	start := time.Date(2026, 5, 6, 7, 0, 0, 0, time.UTC)
	first := tokenExpiry(start, life)
	for m := range 60 {
		now := start.Add(time.Duration(m) * time.Minute)
		e := tokenExpiry(now, life)
		if !e.Equal(first) {
			t.Fatalf("expiry at %v is %v, was %v", now, e, first)
		}
		if left := e.Sub(now); left < life || left > 2*life {
			t.Fatalf("token made at %v lives for %v", now, left)
		}
	}
	if !tokenExpiry(start.Add(life), life).After(first) {
		t.Error("expiry never moves")
	}
}

// TestAcceptedKeys: while the secret of a cluster is changed, a node takes what
// another has signed with the old one, to play by it and to listen with it.
func TestAcceptedKeys(t *testing.T) {
	t.Parallel()
	local := libtest.OpenStore(t, t.TempDir())
	open := func(key string, accept ...[]byte) *Library {
		cfg := testConfig()
		cfg.Key, cfg.AcceptKeys = []byte(key), accept
		return openLibrary(t, cfg, testDeps(local))
	}
	before := open("old")
	put(t, before, "acme", "x.mp3", mp3Sound(10), PutOptions{})
	answer := libtest.Must[Lookup](t)(before.Lookup(t.Context(), LookupRequest{Name: "x.mp3", Account: "acme"}))
	_, rest, _ := strings.Cut(answer.StreamURL, "/play/")
	token, _, _ := strings.Cut(rest, "/")
	for _, c := range []struct {
		name string
		l    *Library
		want error
	}{
		{"the node that signed", before, nil},
		{"a node that accepts the old key", open("new", []byte("older"), []byte("old")), nil},
		{"a node that does not", open("new", []byte("older")), ErrBadToken},
	} {
		_, err := c.l.OpenPlay(t.Context(), token)
		libtest.WantErr(t, "play by "+c.name, err, c.want)
		err = c.l.MayListen(t.Context(), Listening{Account: "acme", ID: "x.mp3", Token: token})
		libtest.WantErr(t, "listen to "+c.name, err, c.want)
	}
}

// TestPlayURLs: the rules that FreeSWITCH needs of a URL hold for any id.
func TestPlayURLs(t *testing.T) {
	t.Parallel()
	l := &Library{
		cfg: Config{HTTPURL: "http://127.0.0.1:8080", ShoutHost: "127.0.0.1:8000", PlayTTL: time.Hour},
	}
	key := bytes.Repeat([]byte{1}, 32)
	l.key.Store(&key)
	for _, id := range []string{
		"a", "a.mp3", "a.wav", "x/y@z!&'{[($).mp3", "Grüße an alle", "100% sure?#.mp3",
		strings.Repeat("é", naming.IDBytesMax/2), strings.Repeat("@", naming.IDBytesMax),
	} {
		d := Document{Account: strings.Repeat("a", naming.AccountBytesMax), ID: id}
		d.Audio.Format = audio.FormatMP3
		byHTTP := libtest.Must[Lookup](t)(l.itemAnswer(t.Context(), &d, &LookupRequest{Protocol: "http"}))
		byShout := libtest.Must[Lookup](t)(l.itemAnswer(t.Context(), &d, &LookupRequest{Protocol: "shout"}))
		for _, url := range []string{byHTTP.StreamURL, byShout.StreamURL} {
			path := url[strings.Index(url, "://")+3:]
			if len(url) >= 1000 || !strings.HasSuffix(url, ".mp3") || strings.HasSuffix(url, ".mp3.mp3") {
				t.Errorf("url of %d bytes for %.20q…: %.60s…", len(url), id, url)
			}
			if strings.ContainsAny(path, "@!&'{[(|$,?# \"%") && !onlyEscapes(path) {
				t.Errorf("url %s holds a character with a meaning", url)
			}
		}
	}
}

func onlyEscapes(path string) bool { return !strings.ContainsAny(path, "@!&'{[(|$,?# \"") }

// FuzzParseToken: no text makes it panic, and none that we did not sign passes.
func FuzzParseToken(f *testing.F) {
	key := []byte("0123456789abcdef0123456789abcdef")
	good := sampleToken().sign(key)
	f.Add(good)
	f.Add(good[:20])
	f.Add("")
	f.Add(base64.RawURLEncoding.EncodeToString(make([]byte, tokenHeadBytes+tokenTagBytes)))
	f.Fuzz(func(t *testing.T, text string) {
		token, err := parseToken(key, text)
		if err == nil && token.sign(key) != text {
			t.Fatalf("%q passes and is not what we sign", text)
		}
		if err != nil && !errors.Is(err, ErrBadToken) {
			t.Fatal(err)
		}
	})
}
