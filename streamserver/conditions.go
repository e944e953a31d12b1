package streamserver

import (
	"net/http"
	"strings"
	"time"
)

// conditionBytesMax bounds what of a list of entity tags is looked at. One
// tag of ours is 66 bytes; nobody holds more than a few versions.
const conditionBytesMax = 4 << 10

// preconditions evaluates the conditional headers of a GET or HEAD in the
// order of RFC 9110 section 13.2.2 and returns 0 to go on, 304 or 412.
func preconditions(h http.Header, etag string, modified time.Time) int {
	if v := first(h, "If-Match"); v != "" {
		if !matches(v, etag, false) {
			return http.StatusPreconditionFailed
		}
	} else if v := first(h, "If-Unmodified-Since"); v != "" {
		if t, err := http.ParseTime(v); err == nil && modified.After(t) {
			return http.StatusPreconditionFailed
		}
	}
	if v := first(h, "If-None-Match"); v != "" {
		if matches(v, etag, true) {
			return http.StatusNotModified
		}
	} else if v := first(h, "If-Modified-Since"); v != "" {
		if t, err := http.ParseTime(v); err == nil && !modified.After(t) {
			return http.StatusNotModified
		}
	}
	return 0
}

// rangeApplies evaluates If-Range: a range of another version than the one
// the client holds would splice two sounds.
func rangeApplies(h http.Header, etag string, modified time.Time) bool {
	v := first(h, "If-Range")
	if v == "" {
		return true
	}
	if v[0] == '"' {
		return v == etag
	}
	if strings.HasPrefix(v, "W/") {
		return false // a weak tag never matches strongly
	}
	t, err := http.ParseTime(v)
	return err == nil && modified.Equal(t)
}

// matches says whether a list of entity tags, or `*`, names etag. Weak tags
// count only in the weak comparison of If-None-Match.
func matches(list, etag string, weak bool) bool {
	if len(list) > conditionBytesMax {
		return false
	}
	for list != "" {
		list = strings.TrimLeft(list, " \t,")
		if list == "" {
			return false
		}
		if list[0] == '*' {
			return true
		}
		isWeak := strings.HasPrefix(list, "W/")
		if isWeak {
			list = list[2:]
		}
		if list == "" || list[0] != '"' {
			return false // not a list of tags
		}
		end := strings.IndexByte(list[1:], '"')
		if end < 0 {
			return false
		}
		tag := list[:end+2]
		if tag == etag && (weak || !isWeak) {
			return true
		}
		list = list[len(tag):]
	}
	return false
}

// first is h.Get for a key that is canonical already.
func first(h http.Header, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}
