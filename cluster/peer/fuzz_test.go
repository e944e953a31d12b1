package peer

import (
	"bytes"
	"errors"
	"testing"
)

func FuzzPreamble(f *testing.F) {
	f.Add(preamble{version: ProtocolVersion, kind: kindCalls, from: "a", to: "b"}.encode())
	stream := preamble{version: ProtocolVersion, kind: kindStream, from: "a", to: "b", name: "raft/catalog"}
	f.Add(stream.encode())
	f.Add(preamble{version: 9, kind: 'Z', from: "a", to: "b"}.encode())
	f.Add([]byte("CARP\x01\xff\xff"))
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := readPreamble(bytes.NewReader(b), ProtocolVersion)
		if err != nil || p.version != ProtocolVersion {
			return
		}
		if again := p.encode(); !bytes.HasPrefix(b, again) {
			t.Fatalf("%q was read as %+v, which is %q", b, p, again)
		}
	})
}

func FuzzReply(f *testing.F) {
	f.Add(encodeReply(ProtocolVersion, statusOK, ""))
	f.Add(encodeReply(ProtocolVersion, statusRefused, "no"))
	f.Add([]byte("CARP\x01\x01\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := readReply(bytes.NewReader(b), ProtocolVersion)
		if err == nil && (len(b) < 8 || b[5] != statusOK) {
			t.Fatalf("%q was read as a welcome", b)
		}
	})
}

func FuzzHeader(f *testing.F) {
	var b [headerBytes]byte
	header{length: 5, kind: frameRequest, code: 3, id: 1 << 60, budget: 1000, version: ProtocolVersion}.put(b[:])
	f.Add(b[:])
	header{kind: framePing, version: ProtocolVersion}.put(b[:])
	f.Add(b[:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < headerBytes {
			return
		}
		b = b[:headerBytes]
		h, err := parseHeader(b, ProtocolVersion)
		if err != nil {
			if !errors.Is(err, ErrProtocol) {
				t.Fatal(err)
			}
			return
		}
		var again [headerBytes]byte
		h.put(again[:])
		if h.length > FrameBytesMax || !bytes.Equal(again[:], b) {
			t.Fatalf("%x was read as %+v", b, h)
		}
	})
}

func TestBodies(t *testing.T) {
	var p bodies
	for _, n := range []int{0, 1, 4 << 10, 5 << 10, 64 << 10, 257 << 10, 1 << 20, FrameBytesMax} {
		b := p.get(n)
		if len(*b) != n || cap(*b) > max(4*n+2*bodySlack, bodyClassBase+bodySlack) {
			t.Errorf("%d bytes: length %d, capacity %d", n, len(*b), cap(*b))
		}
		p.put(b)
	}
}

func TestCodebook(t *testing.T) {
	both := errors.Join(errTest, ErrNoHandler)
	book := builtin().with(map[byte]error{9: errTest})
	if code := book.encode(both); code != 9 {
		t.Errorf("code %d, want the lowest", code)
	}
	for _, code := range []byte{codeOther, codeUserMax + 1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("code %d was taken", code)
				}
			}()
			builtin().with(map[byte]error{code: errTest})
		}()
	}
	e := book.decode("b", 200, "what?")
	if errors.Is(e, errTest) || e.Error() != "node b: what?" {
		t.Errorf("unknown code: %v", e)
	}
}
