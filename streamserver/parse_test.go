package streamserver

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// FuzzRange: whatever the header, the span lies within the item.
func FuzzRange(f *testing.F) {
	for _, seed := range []string{
		"bytes=0-", "bytes=-1", "bytes=5-5", "bytes=0-0,1-1", "bytes=9223372036854775807-",
		"bytes=-9223372036854775808",
		"bytes=+1-2", "bytes= 1 - 2 ", "bytes=--", "bytes=-", "Bytes=0-1", "bytes=1-99999999999999999999",
	} {
		f.Add(seed, int64(100))
	}
	f.Add("bytes=-5", int64(0))
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		s, kind := parseRange(header, size)
		switch kind {
		case rangeWhole:
			if s != (span{0, size}) {
				t.Errorf("%q of %d: whole is %+v", header, size, s)
			}
		case rangePart:
			if s.start < 0 || s.length <= 0 || s.start > size-s.length {
				t.Errorf("%q of %d: part is %+v", header, size, s)
			}
		case rangeUnsatisfiable:
			if !strings.HasPrefix(header, "bytes=") {
				t.Errorf("%q of %d is refused", header, size)
			}
		}
	})
}

// FuzzConditions: a list of entity tags matches only if the tag is in it.
func FuzzConditions(f *testing.F) {
	for _, seed := range []string{`"a"`, `W/"a"`, `*`, `"b", "a"`, `,,"a"`, `"`, `W/`, `"b`, `a`, `"b" "a"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, list string) {
		strong, weak := matches(list, `"a"`, false), matches(list, `"a"`, true)
		if strong && !weak {
			t.Errorf("%q matches strongly but not weakly", list)
		}
		if weak && !strings.Contains(list, `"a"`) && !strings.Contains(list, "*") {
			t.Errorf("%q matches", list)
		}
	})
}

// Every span that a client can name comes back as it was named.
func TestRangeProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, 1<<40).Draw(t, "size")
		start := rapid.Int64Range(0, size-1).Draw(t, "start")
		length := rapid.Int64Range(1, size-start).Draw(t, "length")
		want := span{start, length}
		header := strings.Replace(strings.TrimSuffix(contentRange(want, 0), "/0"), "bytes ", "bytes=", 1)
		if got, kind := parseRange(header, size); kind != rangePart || got != want {
			t.Errorf("%s of %d is %+v, kind %d", header, size, got, kind)
		}
	})
}
