package playtoken

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"carillon/library/fault"
)

func sampleToken() Token {
	return Token{
		Account: "acme", ID: "moh/jazz.mp3", Pin: Pin{1, 2, 3}, Expiry: time.Unix(1_900_000_000, 0),
	}
}

// TestTokens: what was signed comes back; any change of a character, any other
// key, and anything else is refused.
func TestTokens(t *testing.T) {
	t.Parallel()
	key := []byte("0123456789abcdef0123456789abcdef")
	want := sampleToken()
	text := want.sign(key)
	got, err := parse(key, text)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("token came back as %+v, want %+v", got, want)
	}
	if _, err := parse([]byte("other"), text); !errors.Is(err, fault.ErrBadToken) {
		t.Errorf("other key: %v, want ErrBadToken", err)
	}
	for i := range len(text) {
		for _, c := range []byte{'A', 'z', '_', '=', '/', 0} {
			changed := []byte(text)
			if changed[i] == c {
				continue
			}
			changed[i] = c
			if _, err := parse(key, string(changed)); !errors.Is(err, fault.ErrBadToken) {
				t.Fatalf("character %d changed to %q: %v, want ErrBadToken", i, c, err)
			}
		}
	}
	for _, bad := range []string{"", "x", text[1:], text + "A", text + "\n", strings.Repeat("A", 10<<10)} {
		if _, err := parse(key, bad); !errors.Is(err, fault.ErrBadToken) {
			t.Errorf("%.20q…: %v, want ErrBadToken", bad, err)
		}
	}
}

// TestTokenExpiry: one URL for a whole life, good for a life at least.
func TestTokenExpiry(t *testing.T) {
	t.Parallel()
	const life = time.Hour
	start := time.Date(2026, 5, 6, 7, 0, 0, 0, time.UTC)
	first := Expiry(start, life)
	for m := range 60 {
		now := start.Add(time.Duration(m) * time.Minute)
		e := Expiry(now, life)
		if !e.Equal(first) {
			t.Fatalf("expiry at %v is %v, was %v", now, e, first)
		}
		if left := e.Sub(now); left < life || left > 2*life {
			t.Fatalf("token made at %v lives for %v", now, left)
		}
	}
	if !Expiry(start.Add(life), life).After(first) {
		t.Error("expiry never moves")
	}
}

// FuzzParseToken: no text makes it panic, and none that we did not sign passes.
func FuzzParseToken(f *testing.F) {
	key := []byte("0123456789abcdef0123456789abcdef")
	good := sampleToken().sign(key)
	f.Add(good)
	f.Add(good[:20])
	f.Add("")
	f.Add(base64.RawURLEncoding.EncodeToString(make([]byte, headBytes+tagBytes)))
	f.Fuzz(func(t *testing.T, text string) {
		token, err := parse(key, text)
		if err == nil && token.sign(key) != text {
			t.Fatalf("%q passes and is not what we sign", text)
		}
		if err != nil && !errors.Is(err, fault.ErrBadToken) {
			t.Fatal(err)
		}
	})
}
