package library

import (
	"strings"
	"testing"

	"carillon/library/libtest"
)

// TestTitles: what the source says is heard now is known on this node at once,
// by others when it is committed, and by the recording when it has ended.
func TestTitles(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	r := ticket(t, l, RecordingRequest{})
	s := libtest.Must[*Session](t)(l.Claim(t.Context(), ticketRequest(l, r)))
	s.SetTitle("one", map[string]string{"icy-name": "Radio"})
	libtest.Equal(t, "title at once", recordingNow(t, l, r.ID).Title, "one")
	libtest.WaitFor(t, "others see the title", func() bool {
		row := libtest.Must[*stored](t)(l.recording(t.Context(), r.ID))
		return row.Title == "one" && row.ICY["icy-name"] == "Radio"
	})
	s.SetTitle("bad\x00", nil)
	s.SetTitle(strings.Repeat("x", TextBytesMax+1), nil)
	for range 100 {
		s.SetTitle("two", nil)
		s.SetTitle("three", nil)
	}
	write(t, s, mp3Sound(9))
	libtest.WantErr(t, "close", s.Close(libtest.Bounded(t), EndedClean), nil)
	sealed := recordingNow(t, l, r.ID)
	libtest.Equal(t, "title", sealed.Title, "three")
	libtest.Equal(t, "name", sealed.ICY["icy-name"], "Radio")
	s.SetTitle("late", nil)
	libtest.Equal(t, "title", recordingNow(t, l, r.ID).Title, "three")
}

// TestPasswordLine: all forms of the line open what they should, and no form
// opens more than a login by user and password.
func TestPasswordLine(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.Sources = append(cfg.Sources,
		SourceAccount{User: "dj", Password: "a:b", Account: "radio"},
		SourceAccount{User: "open", Password: "", Account: "open"})
	l := openLibrary(t, cfg, testDeps(libtest.OpenStore(t, t.TempDir())))
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
			libtest.WantErr(t, line, err, ErrUnauthorized)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		libtest.Equal(t, line+": account", s.Recording().Account, want.account)
		libtest.Equal(t, line+": name", s.Recording().Name, want.mount)
		libtest.WantErr(t, "close", s.Close(libtest.Bounded(t), EndedClean), nil)
	}
	_, err := l.Claim(t.Context(), SourceRequest{User: "*", Password: "bar", Mount: "x"})
	libtest.WantErr(t, "a user called *", err, ErrUnauthorized)
}
