package naming

import (
	"errors"
	"strings"
	"testing"

	"carillon/library/fault"
)

// TestCheckItem: what clients may call things, and what they may not.
func TestCheckItem(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", IDBytesMax)
	good := [][2]string{
		{"a", "b"},
		{"4c1f8ee7a60bd59d8bc3ef8d7a3dbb77", "moh/jazz.mp3"},
		{"A-1.b_c", "en-us/vm-enter_id"},
		{"system", "Grüße/an alle.wav"},
		{strings.Repeat("a", AccountBytesMax), long},
		{"a", "..."},
		{"a", ".hidden"},
		{"a", "a..b/c"},
		{"a", "100%/x?y#z@host:80"},
	}
	for _, n := range good {
		if err := CheckItem(n[0], n[1]); err != nil {
			t.Errorf("CheckItem(%q, %q) = %v, want nil", n[0], n[1], err)
		}
	}
	bad := [][2]string{
		{"", "b"},
		{".", "b"},
		{"..", "b"},
		{"-a", "b"},
		{"a/b", "c"},
		{"a b", "c"},
		{"ä", "c"},
		{"a\x00", "c"},
		{strings.Repeat("a", AccountBytesMax+1), "c"},
		{"a", ""},
		{"a", "."},
		{"a", ".."},
		{"a", "../b"},
		{"a", "b/.."},
		{"a", "b/../c"},
		{"a", "b/./c"},
		{"a", "/b"},
		{"a", "b/"},
		{"a", "b//c"},
		{"a", "b\x00c"},
		{"a", "b\nc"},
		{"a", "b\x7fc"},
		{"a", "b\u0085c"},
		{"a", "\xff\xfe"},
		{"a", "b\xc0\xaf.."},
		{"a", long + "x"},
		{"a", strings.Repeat("y", 10<<10)},
	}
	for _, n := range bad {
		if err := CheckItem(n[0], n[1]); !errors.Is(err, fault.ErrBadName) {
			t.Errorf("CheckItem(%.40q, %.40q) = %v, want fault.ErrBadName", n[0], n[1], err)
		} else if len(err.Error()) > 500 {
			t.Errorf("error of %d bytes tells a long name back", len(err.Error()))
		}
	}
}
