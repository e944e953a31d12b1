package library

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"carillon/library/naming"
)

// Codes of a FieldError: a small closed set, for programs.
const (
	fieldRequired = "required"  // missing or empty
	fieldTooLong  = "too_long"  // more bytes or entries than allowed
	fieldRange    = "range"     // a number or a length out of its range
	fieldInvalid  = "invalid"   // not of the form that it must have
	fieldUnknown  = "unknown"   // none of the values that are allowed
	fieldFixed    = "fixed"     // it may not be changed
	fieldLoop     = "loop"      // an account would be its own ancestor
	fieldNoItem   = "not_found" // it names what is not there
)

// FieldError says what is wrong with one field of a request.
type FieldError struct {
	Code    string `json:"code"`    // stable, for programs
	Message string `json:"message"` // for people, without the field's name
}

// FieldErrors are all that is wrong with a request, by the JSON name of the
// field ("tts.text"). It is an ErrBadRequest.
type FieldErrors map[string]FieldError //nolint:errname // it is several

// Error is one line with every field, in the order of their names.
func (e FieldErrors) Error() string {
	parts := make([]string, 0, len(e))
	for _, field := range slices.Sorted(maps.Keys(e)) {
		parts = append(parts, field+" "+e[field].Message)
	}
	return strings.Join(parts, "; ")
}

// Unwrap returns ErrBadRequest.
func (e FieldErrors) Unwrap() error { return ErrBadRequest }

// checks collects what is wrong with the fields of one request; the first
// fault of a field counts.
type checks struct{ found FieldErrors }

func (c *checks) fail(field, code, format string, args ...any) {
	if _, twice := c.found[field]; twice {
		return
	}
	if c.found == nil {
		c.found = make(FieldErrors)
	}
	c.found[field] = FieldError{code, fmt.Sprintf(format, args...)}
}

// err is nil when every check has passed.
func (c *checks) err() error {
	if len(c.found) == 0 {
		return nil
	}
	return c.found
}

// text checks a short text for people or programs: UTF-8 without control
// characters.
func (c *checks) text(field, text string, bytesMax int) {
	switch {
	case len(text) > bytesMax:
		c.fail(field, fieldTooLong, "has %d bytes, at most %d", len(text), bytesMax)
	case !naming.IsPlain(text):
		c.fail(field, fieldInvalid, "must be UTF-8 without control characters")
	}
}

// within checks that a number is 0 to most.
func (c *checks) within(field string, n, most int64) {
	if n < 0 || n > most {
		c.fail(field, fieldRange, "must be 0 to %d", most)
	}
}

// oneOf checks that a text is "" or one of the values.
func (c *checks) oneOf(field, text string, values ...string) {
	if text != "" && !slices.Contains(values, text) {
		c.fail(field, fieldUnknown, "is %s, want one of %s", naming.Shown(text), strings.Join(values, ", "))
	}
}

// language checks a language tag: letters, digits, '-' and '_'.
func (c *checks) language(field, tag string) {
	if len(tag) > languageBytesMax {
		c.fail(field, fieldTooLong, "must be at most %d bytes", languageBytesMax)
		return
	}
	for i := range len(tag) {
		if b := tag[i]; !naming.IsAlnum(b) && b != '-' && b != '_' {
			c.fail(field, fieldInvalid, "may hold letters, digits, '-' and '_' only")
			return
		}
	}
}
