package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// welcome takes an accepted connection through the handshake and serves it.
func (l *Link) welcome(raw net.Conn, host string) {
	defer func() { _ = raw.Close() }() // again is harmless; errors tell nothing
	if !l.track(raw) {
		l.endHandshake(host)
		return
	}
	defer l.untrack(raw)
	conn, p, err := l.greet(raw)
	l.endHandshake(host)
	if err != nil {
		l.refused(raw, err)
		return
	}
	defer l.leave()
	if p.kind == kindCalls {
		l.serveCalls(conn, p.from)
		return
	}
	l.serveStream(conn, p)
}

// greet does TLS, reads the preamble and answers it. Without an error the
// connection has one of the places.
func (l *Link) greet(raw net.Conn) (net.Conn, preamble, error) {
	if err := raw.SetDeadline(time.Now().Add(handshakeWait)); err != nil {
		return nil, preamble{}, fmt.Errorf("set handshake deadline: %w", err)
	}
	conn := raw
	var state tls.ConnectionState
	if l.cfg.TLS != nil {
		cork := &corkConn{Conn: raw}
		secure := tls.Server(cork, l.cfg.TLS)
		if err := secure.HandshakeContext(context.Background()); err != nil {
			return nil, preamble{}, fmt.Errorf("tls handshake: %w", err)
		}
		conn, state = &secureConn{Conn: secure, cork: cork}, secure.ConnectionState()
	}
	p, err := readPreamble(conn)
	if err != nil {
		return nil, preamble{}, err // not a peer: it gets nothing
	}
	if refusal := l.admit(p, state); refusal != nil {
		_, err = conn.Write(encodeReply(statusRefused, refusal.Error()))
		return nil, p, errors.Join(refusal, err)
	}
	if _, err = conn.Write(encodeReply(statusOK, "")); err != nil {
		l.leave()
		return nil, p, fmt.Errorf("write reply: %w", err)
	}
	if err = conn.SetDeadline(time.Time{}); err != nil {
		l.leave()
		return nil, p, fmt.Errorf("clear handshake deadline: %w", err)
	}
	return conn, p, nil
}

// admit gives a dialer a place, or says why it is not wanted.
func (l *Link) admit(p preamble, state tls.ConnectionState) error {
	if p.version != protocolVersion {
		return fmt.Errorf("this node speaks peer protocol version %d, not %d: upgrade the older node: %w",
			protocolVersion, p.version, ErrProtocol)
	}
	if l.cfg.TLS != nil {
		if err := checkIdentity(state, p.from); err != nil {
			return err
		}
	}
	if p.to != l.cfg.NodeID {
		return fmt.Errorf("this is node %s, not %s: %w", l.cfg.NodeID, p.to, ErrIdentity)
	}
	if p.kind == kindStream && l.stream(p.name) == nil {
		return fmt.Errorf("no stream %q here: %w", p.name, errNoStream)
	}
	if !l.enter() {
		return errTooMany
	}
	return nil
}

var (
	errNoStream = errors.New("nobody listens")
	errTooMany  = errors.New("too many connections")
)

// dial makes a connection to a node, ready for frames or a stream. Errors are
// ErrUnreachable and ErrNotSent.
func (l *Link) dial(ctx context.Context, to string, kind byte, name string) (net.Conn, error) {
	addr, err := l.cfg.Resolve(to)
	if err != nil {
		return nil, notSent(to, err)
	}
	ctx, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	stop := &canceler{cancel: cancel}
	if !l.track(stop) {
		return nil, notSent(to, ErrClosed)
	}
	defer l.untrack(stop)
	raw, err := l.cfg.Network.Dial(ctx, addr)
	if err != nil {
		return nil, notSent(to, err)
	}
	// The context must also end the handshake, which only knows deadlines.
	unwatch := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	conn, err := l.introduce(ctx, raw, preamble{
		version: protocolVersion, kind: kind, from: l.cfg.NodeID, to: to, name: name,
	})
	if !unwatch() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = raw.Close()
		return nil, notSent(to, err)
	}
	return conn, nil
}

func (l *Link) introduce(ctx context.Context, raw net.Conn, p preamble) (net.Conn, error) {
	conn := raw
	if l.cfg.TLS != nil {
		cfg := l.cfg.TLS.Clone()
		cfg.ServerName = p.to
		cork := &corkConn{Conn: raw}
		secure := tls.Client(cork, cfg)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("tls handshake: %w", err)
		}
		if err := checkIdentity(secure.ConnectionState(), p.to); err != nil {
			return nil, err
		}
		conn = &secureConn{Conn: secure, cork: cork}
	}
	if _, err := conn.Write(p.encode()); err != nil {
		return nil, fmt.Errorf("write preamble: %w", err)
	}
	return conn, readReply(conn)
}

func notSent(to string, err error) error {
	return fmt.Errorf("reach node %s: %w (%w): %w", to, ErrUnreachable, ErrNotSent, err)
}

// canceler lets Close end a dial.
type canceler struct {
	once   sync.Once
	cancel context.CancelFunc
}

// Close implements io.Closer.
func (c *canceler) Close() error {
	c.once.Do(c.cancel)
	return nil
}
