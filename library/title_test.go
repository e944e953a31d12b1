package library

import (
	"strings"
	"testing"
)

// TestTitles: what the source says is heard now is known on this node at once,
// by others when it is committed, and by the recording when it has ended.
func TestTitles(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	r := ticket(t, l, RecordingRequest{})
	s := must[*Session](t)(l.Claim(t.Context(), ticketRequest(l, r)))
	s.SetTitle("one", map[string]string{"icy-name": "Radio"})
	equal(t, "title at once", recordingNow(t, l, r.ID).Title, "one")
	waitFor(t, "others see the title", func() bool {
		row := must[*stored](t)(l.recording(t.Context(), r.ID))
		return row.Title == "one" && row.ICY["icy-name"] == "Radio"
	})
	s.SetTitle("bad\x00", nil)
	s.SetTitle(strings.Repeat("x", TextBytesMax+1), nil)
	for range 100 {
		s.SetTitle("two", nil)
		s.SetTitle("three", nil)
	}
	write(t, s, mp3Sound(9))
	wantErr(t, "close", s.Close(bounded(t), EndedClean), nil)
	sealed := recordingNow(t, l, r.ID)
	equal(t, "title", sealed.Title, "three")
	equal(t, "name", sealed.ICY["icy-name"], "Radio")
	s.SetTitle("late", nil)
	equal(t, "title", recordingNow(t, l, r.ID).Title, "three")
}

// TestPasswordLine: all forms of the line open what they should, and no form
// opens more than a login by user and password.
func TestPasswordLine(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.Sources = append(cfg.Sources,
		SourceAccount{User: "dj", Password: "a:b", Account: "radio"},
		SourceAccount{User: "open", Password: "", Account: "open"})
	l := openLibrary(t, cfg, testDeps(openLocal(t, t.TempDir())))
	r := ticket(t, l, RecordingRequest{Name: "show.mp3"})
	for line, want := range map[string]struct{ account, mount string }{
		"bar":                {"acme", "stream"},
		"foo:bar":            {"acme", "stream"},
		"/jazz.mp3:bar":      {"acme", "jazz.mp3"},
		"a:b":                {"radio", "stream"},
		"dj:a:b":             {"radio", "stream"},
		"open:":              {"open", "stream"},
		r.ID + ":" + r.Token: {"acme", "show.mp3"},
		"":                   {},
		":":                  {},
		"*:bar":              {},
		"x:bar":              {},
		"baz":                {},
		"/x:":                {},
		r.ID + ":x":          {},
	} {
		s, err := l.Claim(t.Context(), SourceRequest{PasswordOnly: true, Password: line, Mount: "stream"})
		if want.account == "" {
			wantErr(t, line, err, ErrUnauthorized)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		equal(t, line+": account", s.Recording().Account, want.account)
		equal(t, line+": name", s.Recording().Name, want.mount)
		wantErr(t, "close", s.Close(bounded(t), EndedClean), nil)
	}
	_, err := l.Claim(t.Context(), SourceRequest{User: "*", Password: "bar", Mount: "x"})
	wantErr(t, "a user called *", err, ErrUnauthorized)
}
