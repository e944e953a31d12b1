package library

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"carillon/blobstore"
	"carillon/library/field"
	"carillon/library/libtest"
	"carillon/library/secret"
)

func sampleAccount() AccountSettings {
	return AccountSettings{
		Account: "acme", Revision: 9, Name: "ACME", Parent: "reseller", Language: "fr-ca",
		Fallback: "prompt://system/unavailable", GainDB: -4.5,
		RetentionSeconds: map[Class]int64{ClassVoicemail: 93 * 24 * 3600},
		Quota:            Quota{Bytes: 1 << 30, Items: 1000},
		ListenerAuth:     ListenerAuth{Mode: ListenBasic, User: "moh", Password: "0102:ab"},
		Export: ExportSettings{
			URL: "https://s3.example/bucket", OnStore: true,
			Headers: map[string]secret.Text{"Authorization": "Bearer x"},
		},
		Modified: time.UnixMilli(1_700_000_000_123).UTC(),
	}
}

func TestAccountRow(t *testing.T) {
	t.Parallel()
	s := sampleAccount()
	value := libtest.Must[[]byte](t)(encodeAccount(&s))
	libtest.Golden(t, "account-1.row", value)
	back := libtest.Must[AccountSettings](t)(decodeAccount("acme", blobstore.Row{Value: value, Revision: 9}))
	if diff := cmp.Diff(s, back); diff != "" {
		t.Errorf("settings came back changed:\n%s", diff)
	}
}

func setAccount(t *testing.T, l *Library, account string, edit func(*AccountSettings)) AccountSettings {
	t.Helper()
	return libtest.Must[AccountSettings](t)(l.UpdateAccount(t.Context(), account, "",
		func(s *AccountSettings) error {
			edit(s)
			return nil
		}))
}

func TestAccountSettings(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	ctx := t.Context()
	none := libtest.Must[AccountSettings](t)(l.Account(ctx, "acme", Fresh))
	if diff := cmp.Diff(AccountSettings{Account: "acme"}, none); diff != "" {
		t.Errorf("settings of an account without any:\n%s", diff)
	}
	first := setAccount(t, l, "acme", func(s *AccountSettings) {
		s.Language, s.Parent = "EN-us", "reseller"
		s.ListenerAuth = ListenerAuth{Mode: ListenBasic, User: "u", Password: "secret"}
		s.Export = ExportSettings{URL: "http://x/y", Headers: map[string]secret.Text{"Authorization": "tok"}}
		s.RetentionSeconds = map[Class]int64{ClassRecording: 5, ClassUpload: 0}
	})
	libtest.Equal(t, "language", first.Language, "en-us")
	libtest.Equal(t, "classes with retention", len(first.RetentionSeconds), 1)
	text := string(libtest.Must[[]byte](t)(json.Marshal(first)))
	for _, secret := range []string{"secret", "tok\"", first.ListenerAuth.Password.Reveal()} {
		if strings.Contains(text, secret) {
			t.Errorf("JSON holds the secret: %s", text)
		}
	}
	if printed := fmt.Sprintf("%v %+v %#v", first, first, first); strings.Contains(printed, "tok") {
		t.Errorf("settings print a secret: %s", printed)
	}
	// What was read can be written back.
	second := setAccount(t, l, "acme", func(s *AccountSettings) {
		if err := json.Unmarshal([]byte(text), s); err != nil {
			t.Fatal(err)
		}
	})
	libtest.Equal(t, "header", second.Export.Headers["Authorization"].Reveal(), "tok")
	for _, c := range []struct {
		user, password string
		want           bool
	}{{"u", "secret", true}, {"u", "Secret", false}, {"v", "secret", false}, {"u", "", false}} {
		libtest.Equal(t, c.user+":"+c.password, second.ListenerAuth.Check(c.user, c.password), c.want)
	}
	_, err := l.UpdateAccount(ctx, "acme", first.ETag(), func(*AccountSettings) error { return nil })
	libtest.WantErr(t, "update of an old revision", err, ErrPrecondition)
	libtest.WantErr(t, "delete", l.DeleteAccount(ctx, "acme", second.ETag()), nil)
	libtest.WantErr(t, "delete again", l.DeleteAccount(ctx, "acme", ""), ErrNotFound)
	libtest.Equal(t, "revision", libtest.Must[AccountSettings](t)(l.Account(ctx, "acme", Local)).Revision, 0)
}

// TestAccountFields: every field that is wrong is named.
func TestAccountFields(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	setAccount(t, l, "b", func(s *AccountSettings) { s.Parent = "a" })
	_, err := l.UpdateAccount(t.Context(), "a", "", func(s *AccountSettings) error {
		s.Parent, s.Language, s.GainDB = "b", "e n", 30
		s.Name, s.Fallback = "\x00", strings.Repeat("x", 2000)
		s.RetentionSeconds = map[Class]int64{"other": 1, ClassUpload: -1}
		s.Quota = Quota{-1, -1}
		s.ListenerAuth = ListenerAuth{Mode: ListenBasic, User: "a:b"}
		s.Export = ExportSettings{URL: "ftp://x", Headers: map[string]secret.Text{"a b": "c"}}
		return nil
	})
	libtest.WantErr(t, "wrong settings", err, ErrBadRequest)
	fields, _ := errors.AsType[field.Errors](err)
	got := make(map[string]string)
	for name, e := range fields {
		got[name] = e.Code
	}
	want := map[string]string{
		"parent": field.Loop, "language": field.Invalid, "gain_db": field.Range, "name": field.Invalid,
		"fallback_sound":    field.TooLong,
		"retention_seconds": field.Unknown, "retention_seconds.upload": field.Range,
		"quota.bytes": field.Range, "quota.items": field.Range, "listener_auth.user": field.Invalid,
		"listener_auth": field.Required, "export.url": field.Invalid, "export.headers": field.Invalid,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fields:\n%s", diff)
	}
	libtest.Equal(t, "revision",
		libtest.Must[AccountSettings](t)(l.Account(t.Context(), "a", Local)).Revision, 0)
}

// TestAncestry: chains end, whatever the rows say.
func TestAncestry(t *testing.T) {
	t.Parallel()
	l, local := newLibrary(t)
	for i := range 12 {
		s := AccountSettings{Account: fmt.Sprint("a", i), Parent: fmt.Sprint("a", i+1)}
		if i == 2 {
			s.Parent = "a0" // what two nodes may write at once
		}
		value := libtest.Must[[]byte](t)(encodeAccount(&s))
		txn := blobstore.Txn{Put: []blobstore.Row{{Key: accountKey(s.Account), Value: value}}}
		libtest.Must[uint64](t)(local.Commit(t.Context(), txn))
	}
	libtest.Equal(t, "a circle", len(libtest.Must[[]*AccountSettings](t)(l.ancestry(t.Context(), "a0"))), 3)
	libtest.Equal(t, "a long chain", len(libtest.Must[[]*AccountSettings](t)(l.ancestry(t.Context(), "a3"))),
		ParentsMax+1)
	_, err := l.UpdateAccount(t.Context(), "new", "", func(s *AccountSettings) error {
		s.Parent = "a3"
		return nil
	})
	libtest.WantErr(t, "a parent with too many ancestors", err, ErrBadRequest)
}

func TestAccountsList(t *testing.T) {
	t.Parallel()
	l, _ := newLibrary(t)
	put(t, l, "a", "x", mp3Sound(3), PutOptions{})
	put(t, l, "a-b", "x", mp3Sound(3), PutOptions{})
	put(t, l, "a-b", "y", mp3Sound(3), PutOptions{})
	setAccount(t, l, "a", func(*AccountSettings) {})
	setAccount(t, l, "a.c", func(*AccountSettings) {})
	setAccount(t, l, "z", func(*AccountSettings) {})
	var names []string
	for after, pages := "", 0; ; pages++ {
		page, next, err := l.Accounts(t.Context(), after, 2)
		if err != nil || pages > 5 {
			t.Fatal(pages, err)
		}
		for _, s := range page {
			names = append(names, s.Account)
		}
		if after = next; next == "" {
			break
		}
	}
	if diff := cmp.Diff([]string{"a-b", "a.c", "a", "z"}, names); diff != "" {
		t.Error(diff)
	}
}

// FuzzAccountSettings: whatever a request says is refused or comes back from
// its row as it was, and no secret is in what is shown.
func FuzzAccountSettings(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"language":"EN-us","gain_db":1e300,"parent":"acme"}`,
		`{"retention_seconds":{"voicemail":0,"x":1}}`,
		`{"listener_auth":{"mode":"basic","user":"u","password":"***"}}`,
		`{"export":{"headers":{"A":"***","B":"b"}}}`,
		`{"quota":{"bytes":-1}}`, `{"name":"\u0000"}`, `{"parent":"p"}`,
	} {
		f.Add([]byte(s))
	}
	l := openLibrary(f, testConfig(), testDeps(libtest.OpenStore(f, f.TempDir())))
	before := sampleAccount()
	f.Fuzz(func(t *testing.T, text []byte) {
		s := before.clone()
		if json.Unmarshal(text, &s) != nil {
			return
		}
		s.Account = before.Account
		if err := l.checkSettings(t.Context(), &before, &s); err != nil {
			if FaultOf(err).Code != "bad_request" {
				t.Fatal(err)
			}
			return
		}
		value, err := encodeAccount(&s)
		if err != nil {
			if errors.Is(err, blobstore.ErrTooLarge) {
				return
			}
			t.Fatal(err)
		}
		back, err := decodeAccount(s.Account, blobstore.Row{Value: value, Revision: s.Revision})
		if err != nil {
			t.Fatal(err)
		}
		again, err := encodeAccount(&back)
		if err != nil || !bytes.Equal(again, value) {
			t.Fatalf("row %s came back as %s, %v", value, again, err)
		}
		shown, err := json.Marshal(s)
		hash := s.ListenerAuth.Password.Reveal()
		if err != nil || len(hash) > 32 && strings.Contains(string(shown), hash) {
			t.Fatalf("shown %s, %v", shown, err)
		}
	})
}
