package library

import (
	"errors"
	"strings"
	"testing"
)

func TestConditions(t *testing.T) {
	t.Parallel()
	const tag = `"abc"`
	for _, c := range []struct {
		name, ifMatch, ifNoneMatch, etag string
		want                             error
	}{
		{"none", "", "", tag, nil},
		{"star matches", "*", "", tag, nil},
		{"star on nothing", "*", "", "", ErrPrecondition},
		{"same", `"abc"`, "", tag, nil},
		{"other", `"abd"`, "", tag, ErrPrecondition},
		{"list", `"x", "abc" ,"y"`, "", tag, nil},
		{"comma in a tag", `"x,y","abc"`, "", tag, nil},
		{"list without", `"x","y"`, "", tag, ErrPrecondition},
		{"weak never matches strongly", `W/"abc"`, "", tag, ErrPrecondition},
		{"weak before strong", `W/"abc", "abc"`, "", tag, nil},
		{"on nothing", `"abc"`, "", "", ErrPrecondition},
		{"unquoted", `abc`, "", tag, ErrPrecondition},
		{"unclosed", `"abc`, "", tag, ErrPrecondition},
		{"create only, is there", "", "*", tag, ErrPrecondition},
		{"create only", "", "*", "", nil},
		{"not this", "", `"abc"`, tag, ErrPrecondition},
		{"not this, weakly", "", `W/"abc"`, tag, ErrPrecondition},
		{"not another", "", `"abd"`, tag, nil},
		{"both", `"abc"`, `"abd"`, tag, nil},
		{"too long", strings.Repeat(`"a",`, 2000), "", tag, ErrBadRequest},
	} {
		if err := checkConditions(c.ifMatch, c.ifNoneMatch, c.etag); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		// Of several tags one will do.
		err := checkConditions(c.ifMatch, c.ifNoneMatch, `"other"`, c.etag)
		if c.etag != "" && !errors.Is(err, c.want) {
			t.Errorf("%s, with another: %v, want %v", c.name, err, c.want)
		}
	}
	if err := checkConditions("", "*"); err != nil {
		t.Errorf("nothing there: %v", err)
	}
}

// FuzzMatchesETag: no header hangs or panics, and a weak match is the weaker.
func FuzzMatchesETag(f *testing.F) {
	for _, s := range []string{"*", `"abc"`, `W/"abc"`, `"x", "abc"`, `,,"`, ` "abc" x`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if matchesETag(header, `"abc"`, true) && !matchesETag(header, `"abc"`, false) {
			t.Fatal("matches strongly and not weakly")
		}
	})
}
