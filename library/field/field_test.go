package field

import (
	"errors"
	"strings"
	"testing"

	"carillon/library/fault"
	"carillon/library/libtest"
)

// TestChecks: all fields that are at fault are named, each with what was found
// first, and together they are a bad request.
func TestChecks(t *testing.T) {
	t.Parallel()
	var c Checks
	c.Text("name", "a name", 6)
	c.Within("quota", 7, 7)
	c.OneOf("class", "", "a", "b")
	libtest.WantErr(t, "nothing is wrong", c.Err(), nil)
	c.Text("name", "a\nname", 6)
	c.Text("description", strings.Repeat("a", 7), 6)
	c.Within("quota", 8, 7)
	c.Within("quota.items", -1, 7)
	c.OneOf("class", "c", "a", "b")
	c.Fail("class", Fixed, "may not be said twice")
	err := c.Err()
	libtest.WantErr(t, "much is wrong", err, fault.ErrBadRequest)
	found, _ := errors.AsType[Errors](err)
	libtest.Equal(t, "fields", len(found), 5)
	for name, code := range map[string]string{
		"name": Invalid, "description": TooLong, "quota": Range, "quota.items": Range, "class": Unknown,
	} {
		libtest.Equal(t, "code of "+name, found[name].Code, code)
	}
	libtest.Equal(t, "text", err.Error(), `class is "c", want one of a, b; description has 7 bytes, at most 6; `+
		"name must be UTF-8 without control characters; quota must be 0 to 7; quota.items must be 0 to 7")
}
