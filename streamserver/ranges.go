package streamserver

import (
	"strconv"
	"strings"
)

// span is the part of an item that is sent.
type span struct {
	start, length int64
}

// rangeKind is what a Range header asks for.
type rangeKind int

const (
	rangeWhole rangeKind = iota // none, or one that may be ignored
	rangePart
	rangeUnsatisfiable
)

// parseRange reads a Range header for an item of size bytes. A header that is
// malformed, in another unit or of several ranges is ignored, as RFC 9110
// section 14.2 allows: no player asks for several.
func parseRange(header string, size int64) (span, rangeKind) {
	whole := span{0, size}
	spec, ok := strings.CutPrefix(header, "bytes=")
	if !ok || strings.IndexByte(spec, ',') >= 0 {
		return whole, rangeWhole
	}
	from, to, ok := strings.Cut(strings.Trim(spec, " \t"), "-")
	if !ok || from == "" && to == "" {
		return whole, rangeWhole
	}
	if from == "" { // the last bytes
		n, ok := parseOffset(to)
		switch {
		case !ok:
			return whole, rangeWhole
		case n == 0 || size == 0:
			return span{}, rangeUnsatisfiable
		}
		n = min(n, size)
		return span{size - n, n}, rangePart
	}
	start, ok := parseOffset(from)
	if !ok {
		return whole, rangeWhole
	}
	end := size - 1
	if to != "" {
		last, ok := parseOffset(to)
		if !ok || last < start {
			return whole, rangeWhole
		}
		end = min(end, last)
	}
	if start >= size {
		return span{}, rangeUnsatisfiable
	}
	return span{start, end - start + 1}, rangePart
}

// parseOffset reads digits and nothing else: no sign, no space. What is
// larger than any item stands for the largest number.
func parseOffset(s string) (int64, bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	if s == "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 1<<63 - 1, true // out of range, as all of s are digits
	}
	return n, true
}

// contentRange is the header of a 206.
func contentRange(s span, size int64) string {
	b := make([]byte, 0, 64) // "bytes " and three numbers of 19 digits
	b = append(b, "bytes "...)
	b = strconv.AppendInt(b, s.start, 10)
	b = append(b, '-')
	b = strconv.AppendInt(b, s.start+s.length-1, 10)
	b = append(b, '/')
	return string(strconv.AppendInt(b, size, 10))
}
