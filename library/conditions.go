package library

import (
	"fmt"
	"slices"
	"strings"
)

// conditionBytesMax bounds a conditional header: some fifty entity tags of
// ours. The door's header limit is larger, and each tag costs a comparison.
const conditionBytesMax = 4 << 10

// checkConditions is RFC 9110 section 13.2.2 for writes: the strong comparison
// of If-Match, then If-None-Match. The tags all stand for what is there; none,
// or "", when nothing is.
func checkConditions(ifMatch, ifNoneMatch string, etags ...string) error {
	matches := func(header string, strong bool) bool {
		return slices.ContainsFunc(etags, func(tag string) bool { return matchesETag(header, tag, strong) })
	}
	if len(ifMatch) > conditionBytesMax || len(ifNoneMatch) > conditionBytesMax {
		return fmt.Errorf("conditional header of more than %d bytes: %w", conditionBytesMax, ErrBadRequest)
	}
	if ifMatch != "" && !matches(ifMatch, true) {
		return fmt.Errorf("if-match: %w", ErrPrecondition)
	}
	if ifNoneMatch != "" && matches(ifNoneMatch, false) {
		return fmt.Errorf("if-none-match: %w", ErrPrecondition)
	}
	return nil
}

// matchesETag says whether the header's list holds the tag. Strong: a weak tag
// never matches; else W/ is ignored (RFC 9110 section 8.8.3.2).
func matchesETag(header, etag string, strong bool) bool {
	if strings.TrimSpace(header) == "*" {
		return etag != ""
	}
	for rest := header; etag != ""; {
		rest = strings.TrimLeft(rest, " \t,")
		if rest == "" {
			return false
		}
		weak := strings.HasPrefix(rest, "W/")
		rest = strings.TrimPrefix(rest, "W/")
		if !strings.HasPrefix(rest, `"`) {
			return false // not a tag: what follows cannot be trusted either
		}
		end := strings.IndexByte(rest[1:], '"')
		if end < 0 {
			return false
		}
		tag := rest[:end+2]
		if tag == etag && (!weak || !strong) {
			return true
		}
		rest = rest[end+2:]
	}
	return false
}
