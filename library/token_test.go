package library

import (
	"strings"
	"testing"
	"time"

	"carillon/audio"
	"carillon/library/libtest"
	"carillon/library/naming"
	"carillon/library/playtoken"
	"carillon/library/rows"
)

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
		cfg:    Config{HTTPURL: "http://127.0.0.1:8080", ShoutHost: "127.0.0.1:8000", PlayTTL: time.Hour},
		tokens: playtoken.New(rows.Store{}, []byte("key")),
	}
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
