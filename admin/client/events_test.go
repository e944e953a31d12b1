package client

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// FuzzSSE: no stream makes the reader panic or loop, and no event has a line
// break in it.
func FuzzSSE(f *testing.F) {
	f.Add("retry: 1000\n: position 1\n\nid: 1.0\nevent: media.created\ndata: {}\n\n")
	f.Add("data\n\n\r\nid\n: \n\nevent:end\n")
	f.Fuzz(func(t *testing.T, s string) {
		lines := 0
		in := newSSEReader(strings.NewReader(s), func() { lines++ })
		for n := 0; ; n++ {
			e, err := in.next()
			if err != nil {
				if !errors.Is(err, io.EOF) && len(s) < sseLineBytesMax {
					t.Error(err)
				}
				return
			}
			if n > len(s) || strings.ContainsAny(e.id+e.kind+e.data, "\n") {
				t.Fatalf("event %d: %+v", n, e)
			}
		}
	})
}
