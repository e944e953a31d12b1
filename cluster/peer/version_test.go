package peer

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// TestVersions: two nodes of different versions speak the older one, in both
// directions and on streams, and a frame of another version ends a connection.
func TestVersions(t *testing.T) {
	w := newWorld(t, nil)
	old, next := w.openVersion("a", ProtocolVersion), w.openVersion("b", ProtocolVersion+1)
	for _, c := range []struct {
		from     *Link
		name, to string
	}{{old, "a", "b"}, {next, "b", "a"}} {
		answer, err := c.from.Call(t.Context(), c.to, kindEcho, []byte("hello"))
		if err != nil || string(answer) != c.name+":hello" {
			t.Errorf("to %s: %q, %v", c.to, answer, err)
		}
	}
	later := preamble{version: ProtocolVersion + 1, kind: kindCalls, from: "b", to: "a"}.encode()
	later[len(magic)+2] += 4 // a later version adds a field at the end
	conn := rawDial(t, old.Addr(), nil)
	if _, err := conn.Write(append(later, "more"...)); err != nil {
		t.Fatal(err)
	}
	if version, err := readReply(conn, ProtocolVersion+1); err != nil || version != ProtocolVersion {
		t.Fatalf("version %d, %v", version, err)
	}
	var frame [headerBytes]byte
	header{kind: framePing, version: ProtocolVersion + 1}.put(frame[:])
	if _, err := conn.Write(frame[:]); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); len(got) != 0 {
		t.Errorf("a frame of another version is answered with %x, %v", got, err)
	}
	_, err := readReply(bytes.NewReader(encodeReply(ProtocolVersion+1, statusOK, "")), ProtocolVersion)
	if !errors.Is(err, ErrProtocol) {
		t.Errorf("a version that was not offered: %v", err)
	}
}
