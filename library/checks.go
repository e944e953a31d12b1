package library

import (
	"carillon/library/field"
	"carillon/library/naming"
)

// checks are [field.Checks] that know what documents, prompts and tickets may
// hold.
type checks struct{ field.Checks }

// language checks a language tag: letters, digits, '-' and '_'.
func (c *checks) language(name, tag string) {
	if len(tag) > languageBytesMax {
		c.Fail(name, field.TooLong, "must be at most %d bytes", languageBytesMax)
		return
	}
	for i := range len(tag) {
		if b := tag[i]; !naming.IsAlnum(b) && b != '-' && b != '_' {
			c.Fail(name, field.Invalid, "may hold letters, digits, '-' and '_' only")
			return
		}
	}
}
