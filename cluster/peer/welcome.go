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
		l.serveCalls(conn, p.from, min(p.version, l.cfg.Version))
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
	if cfg := l.tls(); cfg != nil {
		cork := &corkConn{Conn: raw}
		secure := tls.Server(cork, cfg)
		if err := secure.HandshakeContext(context.Background()); err != nil {
			return nil, preamble{}, fmt.Errorf("tls handshake: %w", err)
		}
		conn, state = &secureConn{Conn: secure, cork: cork}, secure.ConnectionState()
	}
	p, err := readPreamble(conn, l.cfg.Version)
	if err != nil {
		return nil, preamble{}, err // not a peer: it gets nothing
	}
	if refusal := l.admit(p, state); refusal != nil {
		_, err = conn.Write(encodeReply(l.cfg.Version, statusRefused, refusal.Error()))
		return nil, p, errors.Join(refusal, err)
	}
	if _, err = conn.Write(encodeReply(min(p.version, l.cfg.Version), statusOK, "")); err != nil {
		l.leave()
		return nil, p, fmt.Errorf("write reply: %w", err)
	}
	if err = conn.SetDeadline(time.Time{}); err != nil {
		l.leave()
		return nil, p, fmt.Errorf("clear handshake deadline: %w", err)
	}
	return conn, p, nil
}

// tls is the configuration for a connection that is made now; nil: plain.
func (l *Link) tls() *tls.Config {
	if l.cfg.Files != nil {
		return l.cfg.Files.config()
	}
	return l.cfg.TLS
}

// certName is the name that a node's certificate must have.
func (l *Link) certName(id string) string {
	if l.cfg.Files != nil {
		return OwnName
	}
	return id
}

// admit gives a dialer a place, or says why it is not wanted.
func (l *Link) admit(p preamble, state tls.ConnectionState) error {
	if p.version < protocolVersionMin {
		return fmt.Errorf("this node speaks peer protocol versions %d to %d, not %d: upgrade the older node: %w",
			protocolVersionMin, l.cfg.Version, p.version, ErrProtocol)
	}
	if l.tls() != nil {
		if err := checkIdentity(state, l.certName(p.from)); err != nil {
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

// dial makes a connection to a node, ready for frames of the version or a
// stream. Errors are ErrUnreachable and ErrNotSent.
func (l *Link) dial(
	ctx context.Context, to string, kind byte, name string,
) (_ net.Conn, version byte, _ error) {
	addr, err := l.cfg.Resolve(to)
	if err != nil {
		return nil, 0, notSent(to, err)
	}
	ctx, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	stop := &canceler{cancel: cancel}
	if !l.track(stop) {
		return nil, 0, notSent(to, ErrClosed)
	}
	defer l.untrack(stop)
	raw, err := l.cfg.Network.Dial(ctx, addr)
	if err != nil {
		return nil, 0, notSent(to, err)
	}
	// The context must also end the handshake, which only knows deadlines.
	unwatch := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	conn, version, err := l.introduce(ctx, raw, preamble{
		version: l.cfg.Version, kind: kind, from: l.cfg.NodeID, to: to, name: name,
	})
	if !unwatch() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = raw.Close()
		return nil, 0, notSent(to, err)
	}
	return conn, version, nil
}

func (l *Link) introduce(ctx context.Context, raw net.Conn, p preamble) (_ net.Conn, version byte, _ error) {
	conn := raw
	if cfg := l.tls(); cfg != nil {
		cfg = cfg.Clone()
		cfg.ServerName = l.certName(p.to)
		cork := &corkConn{Conn: raw}
		secure := tls.Client(cork, cfg)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, 0, fmt.Errorf("tls handshake: %w", err)
		}
		if err := checkIdentity(secure.ConnectionState(), l.certName(p.to)); err != nil {
			return nil, 0, err
		}
		conn = &secureConn{Conn: secure, cork: cork}
	}
	if _, err := conn.Write(p.encode()); err != nil {
		return nil, 0, fmt.Errorf("write preamble: %w", err)
	}
	version, err := readReply(conn, p.version)
	return conn, version, err
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
