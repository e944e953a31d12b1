package peer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Sentinels of the link, compared with errors.Is.
var (
	// ErrUnreachable is returned when the other node cannot be found or
	// dialed, or when the connection to it broke. It always comes with
	// ErrNotSent or ErrMaybeSent.
	ErrUnreachable = errors.New("node unreachable")
	// ErrNotSent is returned when the other node has certainly not seen the
	// request: to repeat it is safe.
	ErrNotSent = errors.New("request not sent")
	// ErrMaybeSent is returned when the other node may have seen the request
	// and may have acted on it.
	ErrMaybeSent = errors.New("request may have been sent")
	// ErrRefused is returned when the other node answered and does not want
	// the connection: other version, other identity, no such stream.
	ErrRefused = errors.New("connection refused by the node")
	// ErrNoHandler is returned when the other node has no handler for the
	// kind of request, perhaps because it has just begun to start.
	ErrNoHandler = errors.New("no handler for this kind of request")
	// ErrTooLarge is returned for a request or an answer over FrameBytesMax.
	ErrTooLarge = errors.New("too large for one frame")
	// ErrProtocol is returned when the other side breaks the protocol.
	ErrProtocol = errors.New("peer protocol violated")
	// ErrIdentity is returned when a node is not who it says it is, or not
	// who was called.
	ErrIdentity = errors.New("wrong node identity")
	// ErrConfig is returned when Open or ClusterTLS is given something that
	// cannot work.
	ErrConfig = errors.New("bad peer configuration")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("peer link is closed")
)

// Codes of errors on the wire. They are part of the protocol: never reuse one.
const (
	codeOther    = 0   // an error without a registered sentinel
	codeUserMax  = 239 // the codes that Errors takes are 1 to this
	codeTooLarge = 240
	codeNoKind   = 241
	codeDeadline = 242
	codeCanceled = 243
	codeClosed   = 244
)

// RemoteError is an error that the handler on the other node returned.
type RemoteError struct {
	Node string // the node that answered
	Code byte   // as registered with Errors, 0 for none
	Text string // what the error said there
	is   error  // the sentinel that Code stands for here, may be nil
}

// Error implements error.
func (e *RemoteError) Error() string { return fmt.Sprintf("node %s: %s", e.Node, e.Text) }

// Unwrap returns the sentinel that was registered for the code.
func (e *RemoteError) Unwrap() error { return e.is }

// errorCode pairs a wire code with its sentinel.
type errorCode struct {
	code byte
	is   error
}

// codebook translates errors to codes and back. It is immutable.
type codebook struct{ codes []errorCode }

// builtin is the codebook of the link's own codes.
func builtin() *codebook {
	return &codebook{codes: []errorCode{
		{codeTooLarge, ErrTooLarge},
		{codeNoKind, ErrNoHandler},
		{codeDeadline, context.DeadlineExceeded},
		{codeCanceled, context.Canceled},
		{codeClosed, ErrClosed},
	}}
}

// with returns a codebook that also knows codes; lower codes match first.
func (b *codebook) with(codes map[byte]error) *codebook {
	all := make(map[byte]error, len(b.codes)+len(codes))
	for _, c := range b.codes {
		all[c.code] = c.is
	}
	for code, is := range codes {
		if code == codeOther || code > codeUserMax || is == nil {
			panic(fmt.Sprintf("peer: error code %d is reserved or has no error", code))
		}
		all[code] = is
	}
	next := &codebook{codes: make([]errorCode, 0, len(all))}
	for _, code := range slices.SortedFunc(maps.Keys(all), cmp.Compare[byte]) {
		next.codes = append(next.codes, errorCode{code, all[code]})
	}
	return next
}

func (b *codebook) encode(err error) byte {
	for _, c := range b.codes {
		if errors.Is(err, c.is) {
			return c.code
		}
	}
	return codeOther
}

func (b *codebook) decode(node string, code byte, text string) *RemoteError {
	e := &RemoteError{Node: node, Code: code, Text: text}
	for _, c := range b.codes {
		if c.code == code {
			e.is = c.is
		}
	}
	return e
}
