package shoutd

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode"

	"pgregory.net/rapid"

	"carillon/library"
)

// text is a byteSource without deadlines, read as r gives it.
type text struct{ io.Reader }

func (text) SetReadDeadline(time.Time) error { return nil }

func inputOf(r io.Reader) *input {
	return &input{conn: text{r}, buf: make([]byte, inputBytes)}
}

// FuzzRequest: a head parses or is refused; the parse does not depend on how
// the bytes arrive; nothing that is kept can split a head or a log line.
func FuzzRequest(f *testing.F) {
	for _, name := range []string{
		"options.txt", "poke.txt", "probe.txt", "probe-240.txt", "probe-put.txt", "slashes.txt", "title.txt",
		"play.txt", "source.bin", "put.bin",
	} {
		f.Add([]byte(file(f, name)))
	}
	// What Icecast fell over: CVE-2004-2027, -2004-1561, -2005-0837, -2015-3026, -2011-4612.
	f.Add([]byte("SOURCE /x HTTP/1.0\r\nAuthorization: Basic " + strings.Repeat("A", 5000) + "\r\n\r\n"))
	f.Add([]byte("GET /x HTTP/1.0\r\n" + strings.Repeat("a: b\r\n", 200) + "\r\n"))
	f.Add([]byte("GET /admin/stats. HTTP/1.0\r\n\r\n"))
	f.Add([]byte("SOURCE /../%2e%2e/%00 HTTP/1.0\r\nAuthorization: Basic\r\n\r\n"))
	f.Add([]byte("SOURCE /a HTTP/1.0\r\nice-name: a\x1b[2J\rb\r\nUser-Agent: \n\r\n"))
	f.Add([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"))
	f.Add([]byte("PUT http://h:1/a?b=c HTTP/1.1\nContent-Length: 07\nTransfer-Encoding: chunked\n\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		in := inputOf(bytes.NewReader(p))
		r, err := readRequest(in)
		slow := inputOf(iotest.OneByteReader(bytes.NewReader(p)))
		s, slowErr := readRequest(slow)
		if (err == nil) != (slowErr == nil) {
			t.Fatalf("at once: %v, byte by byte: %v", err, slowErr)
		}
		if err != nil {
			var head *headError
			if errors.As(err, &head) && (head.status < 400 || head.status > 599) {
				t.Fatalf("status %d", head.status)
			}
			return
		}
		if r.target != s.target || r.length != s.length || r.user != s.user || len(r.icy) != len(s.icy) {
			t.Fatalf("at once: %+v, byte by byte: %+v", r, s)
		}
		checkRequest(t, r)
	})
}

func checkRequest(t *testing.T, r *request) {
	t.Helper()
	if len(r.icy) > icyHeadersMax || r.length < -1 {
		t.Fatalf("%+v", r)
	}
	for k, v := range r.icy {
		if len(v) > library.TextBytesMax || strings.ContainsFunc(k+v, unicode.IsControl) {
			t.Fatalf("header %q: %q", k, v)
		}
	}
	if path, _, err := r.path(); err == nil && strings.ContainsFunc(shown(path), func(c rune) bool {
		return c < ' ' || c > '~'
	}) {
		t.Fatalf("shown: %q", shown(path))
	}
}

// FuzzChunks: a chunked body gives at most what came, the same however it
// arrives, and ends.
func FuzzChunks(f *testing.F) {
	for _, s := range []string{
		"3\r\nabc\r\n0\r\n\r\n", "3;x=y\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nT: x\r\n\r\n", "0\r\n\r\n",
		"fffffffffffffff\r\n", "ffffffffffffffffff\r\n", "-1\r\n", "3\nabc\n0\n\n", "3\r\nabcd\r\n", "", "5\r\nab",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		got, err := drain(bytes.NewReader(p))
		slow, slowErr := drain(iotest.OneByteReader(bytes.NewReader(p)))
		if !bytes.Equal(got, slow) || (err == nil) != (slowErr == nil) {
			t.Fatalf("at once %q %v, byte by byte %q %v", got, err, slow, slowErr)
		}
		if len(got) > len(p) || errors.Is(err, io.EOF) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(p), err)
		}
	})
}

func drain(r io.Reader) ([]byte, error) {
	b := &body{in: inputOf(r), framing: byChunks}
	var got []byte
	for {
		p, err := b.next()
		got = append(got, p...)
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
	}
}

// TestChunksRoundTrip cuts random sound in random chunks and reads it through
// random pieces.
func TestChunksRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var wire, want bytes.Buffer
		for _, chunk := range rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 1, 9000)).Draw(t, "chunks") {
			wire.WriteString(rapid.SampledFrom([]string{"", "0", "000"}).Draw(t, "zeros"))
			wire.WriteString(hexOf(len(chunk)) + "\r\n")
			wire.Write(chunk)
			wire.WriteString("\r\n")
			want.Write(chunk)
		}
		wire.WriteString("0\r\n\r\n")
		whole := wire.Bytes()
		got, err := drain(bytes.NewReader(whole))
		if err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Fatalf("%d bytes of %d, %v", len(got), want.Len(), err)
		}
		cut := rapid.IntRange(0, len(whole)-1).Draw(t, "cut")
		if _, err := drain(bytes.NewReader(whole[:cut])); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut at %d of %d: %v", cut, len(whole), err)
		}
	})
}

func hexOf(n int) string {
	const digits = "0123456789abcdef"
	if n < 16 {
		return digits[n : n+1]
	}
	return hexOf(n/16) + digits[n%16:n%16+1]
}
