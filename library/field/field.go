package field

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"carillon/library/fault"
	"carillon/library/naming"
)

// Codes of an Error: a small closed set, for programs.
const (
	Required = "required" // missing or empty
	TooLong  = "too_long" // more bytes or entries than allowed
	Range    = "range"    // a number or a length out of its range
	Invalid  = "invalid"  // not of the form that it must have
	Unknown  = "unknown"  // none of the values that are allowed
	Fixed    = "fixed"    // it may not be changed
	Loop     = "loop"     // an account would be its own ancestor
)

// Error says what is wrong with one field of a request.
type Error struct {
	Code    string `json:"code"`    // stable, for programs
	Message string `json:"message"` // for people, without the field's name
}

// Errors are all that is wrong with a request, by the JSON name of the
// field ("tts.text"). It is an ErrBadRequest.
type Errors map[string]Error //nolint:errname // it is several

// Error is one line with every field, in the order of their names.
func (e Errors) Error() string {
	parts := make([]string, 0, len(e))
	for _, field := range slices.Sorted(maps.Keys(e)) {
		parts = append(parts, field+" "+e[field].Message)
	}
	return strings.Join(parts, "; ")
}

// Unwrap returns ErrBadRequest.
func (e Errors) Unwrap() error { return fault.ErrBadRequest }

// Checks collect what is wrong with the fields of one request; the first
// fault of a field counts.
type Checks struct{ found Errors }

// Fail says what is wrong with a field.
func (c *Checks) Fail(field, code, format string, args ...any) {
	if _, twice := c.found[field]; twice {
		return
	}
	if c.found == nil {
		c.found = make(Errors)
	}
	c.found[field] = Error{code, fmt.Sprintf(format, args...)}
}

// Err is nil when every check has passed.
func (c *Checks) Err() error {
	if len(c.found) == 0 {
		return nil
	}
	return c.found
}

// Text checks a short text for people or programs: UTF-8 without control
// characters.
func (c *Checks) Text(field, text string, bytesMax int) {
	switch {
	case len(text) > bytesMax:
		c.Fail(field, TooLong, "has %d bytes, at most %d", len(text), bytesMax)
	case !naming.IsPlain(text):
		c.Fail(field, Invalid, "must be UTF-8 without control characters")
	}
}

// Within checks that a number is 0 to most.
func (c *Checks) Within(field string, n, most int64) {
	if n < 0 || n > most {
		c.Fail(field, Range, "must be 0 to %d", most)
	}
}

// OneOf checks that a text is "" or one of the values.
func (c *Checks) OneOf(field, text string, values ...string) {
	if text != "" && !slices.Contains(values, text) {
		c.Fail(field, Unknown, "is %s, want one of %s", naming.Shown(text), strings.Join(values, ", "))
	}
}
