package peer

import (
	"encoding/binary"
	"fmt"
	"io"
)

// The first bytes of a connection, both ways. All integers are big endian.
//
//	dialer:   "CARP" version(1) length(2), then
//	          kind(1) from(1+n) to(1+n) name(1+n)
//	acceptor: "CARP" version(1) status(1) length(2) text
//
// The dialer says the newest version it speaks; the acceptor answers with the
// one that this connection speaks, the lower of both newest. Every frame says
// it again. The length comes before anything a later version may change, and a
// later version adds at the end, so that an old node can read what it knows and
// pass over the rest.
const (
	magic = "CARP"
	// ProtocolVersion is the newest version of the peer protocol that this
	// build speaks, and protocolVersionMin the oldest: that of the release
	// before, so that a cluster is upgraded node by node.
	ProtocolVersion    = 1
	protocolVersionMin = 1

	kindCalls  = 'C'
	kindStream = 'S'

	statusOK      = 0
	statusRefused = 1

	// preambleBytesMax bounds the body: three names and room for a future.
	preambleBytesMax = 1024
	// streamNameBytesMax bounds a stream's name; "raft/blob-12345" is long.
	streamNameBytesMax = 128
	// refusalBytesMax bounds the text of a refusal.
	refusalBytesMax = 512
)

// preamble is what a dialer says first.
type preamble struct {
	version byte
	kind    byte
	from    string
	to      string
	name    string // streams only
}

func (p preamble) encode() []byte {
	body := []byte{p.kind}
	for _, s := range []string{p.from, p.to, p.name} {
		body = append(body, byte(len(s)))
		body = append(body, s...)
	}
	b := append([]byte(magic), p.version)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

// readPreamble reads what a dialer says first; newest is what this node speaks.
// A version that is too old comes back with nothing but the version set, and no
// error: the caller tells the dialer. Everything else that is wrong is
// ErrProtocol.
func readPreamble(r io.Reader, newest byte) (preamble, error) {
	var head [len(magic) + 3]byte
	if _, err := io.ReadFull(r, head[:len(magic)]); err != nil {
		return preamble{}, fmt.Errorf("read preamble: %w", err)
	}
	if string(head[:len(magic)]) != magic {
		return preamble{}, fmt.Errorf("not a peer: %w", ErrProtocol)
	}
	if _, err := io.ReadFull(r, head[len(magic):]); err != nil {
		return preamble{}, fmt.Errorf("read preamble: %w", err)
	}
	p := preamble{version: head[len(magic)]}
	n := int(binary.BigEndian.Uint16(head[len(magic)+1:]))
	if n > preambleBytesMax {
		return preamble{}, fmt.Errorf("preamble of %d bytes: %w", n, ErrProtocol)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return preamble{}, fmt.Errorf("read preamble: %w", err)
	}
	if p.version < protocolVersionMin {
		return p, nil
	}
	err := p.decode(body, p.version > newest)
	return p, err
}

// decode reads the body; of a later version there may be more of it.
func (p *preamble) decode(body []byte, later bool) error {
	if len(body) == 0 {
		return fmt.Errorf("empty preamble: %w", ErrProtocol)
	}
	p.kind, body = body[0], body[1:]
	for _, s := range []*string{&p.from, &p.to, &p.name} {
		if len(body) == 0 || len(body) < 1+int(body[0]) {
			return fmt.Errorf("short preamble: %w", ErrProtocol)
		}
		n := 1 + int(body[0])
		*s, body = string(body[1:n]), body[n:]
	}
	switch {
	case len(body) != 0 && !later:
		return fmt.Errorf("%d bytes too many in the preamble: %w", len(body), ErrProtocol)
	case p.kind != kindCalls && p.kind != kindStream:
		return fmt.Errorf("connection kind %#x: %w", p.kind, ErrProtocol)
	case !ValidNodeID(p.from) || !ValidNodeID(p.to):
		return fmt.Errorf("node ids %q, %q: %w", p.from, p.to, ErrProtocol)
	case p.kind == kindCalls && p.name != "", p.kind == kindStream && !validStreamName(p.name):
		return fmt.Errorf("stream name %q: %w", p.name, ErrProtocol)
	}
	return nil
}

func validStreamName(name string) bool {
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' {
			return false
		}
	}
	return name != "" && len(name) <= streamNameBytesMax
}

func encodeReply(version, status byte, text string) []byte {
	text = text[:min(len(text), refusalBytesMax)]
	b := append([]byte(magic), version, status)
	b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
	return append(b, text...)
}

// readReply reads the acceptor's reply, the version to speak; a refusal is
// ErrRefused.
func readReply(r io.Reader, newest byte) (version byte, err error) {
	var head [len(magic) + 4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, fmt.Errorf("read reply: %w", err)
	}
	if string(head[:len(magic)]) != magic {
		return 0, fmt.Errorf("not a peer: %w", ErrProtocol)
	}
	version = head[len(magic)]
	status := head[len(magic)+1]
	n := int(binary.BigEndian.Uint16(head[len(magic)+2:]))
	if n > refusalBytesMax {
		return 0, fmt.Errorf("refusal of %d bytes: %w", n, ErrProtocol)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return 0, fmt.Errorf("read reply: %w", err)
	}
	if status != statusOK {
		return 0, fmt.Errorf("%w: %q", ErrRefused, text)
	}
	if version < protocolVersionMin || version > newest {
		return 0, fmt.Errorf("peer wants protocol version %d, this node speaks %d to %d: %w",
			version, protocolVersionMin, newest, ErrProtocol)
	}
	return version, nil
}
