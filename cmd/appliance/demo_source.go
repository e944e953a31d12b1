package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	// sourceWait bounds each step of the handshake; FreeSWITCH has no bound at
	// all, and a caller waits meanwhile.
	sourceWait = 10 * time.Second
	// frameBytes and framePause are one MP3 frame of what FreeSWITCH records:
	// MPEG 2.5, 8 kHz mono, 16 kbit/s (freeswitch-wire.md 2.4).
	frameBytes = 144
	framePause = 72 * time.Millisecond
)

// errRefused is returned when the SHOUT port does not take the source.
var errRefused = errors.New("source refused")

// shoutSource is a source as FreeSWITCH is one, with libshout's handshake.
type shoutSource struct {
	conn net.Conn
	sent int
}

// openSource connects to a record_url: it asks for the server's options,
// probes without credentials as libshout does, and then logs in.
func openSource(ctx context.Context, recordURL string) (*shoutSource, error) {
	u, err := url.Parse(recordURL)
	if err != nil || u.User == nil {
		return nil, fmt.Errorf("record_url %q: %w", recordURL, errRefused)
	}
	password, _ := u.User.Password()
	login := base64.StdEncoding.EncodeToString([]byte(u.User.Username() + ":" + password))
	head := "SOURCE " + u.EscapedPath() + " HTTP/1.0\r\n"
	common := "Host: " + u.Host + "\r\nUser-Agent: libshout/2.4.6\r\nContent-Type: audio/mpeg\r\n" +
		"ice-public: 0\r\nice-name: Carillon demo\r\n"
	for _, try := range []struct {
		request string
		status  int
		keep    bool
	}{
		{"OPTIONS * HTTP/1.1\r\nHost: " + u.Host + "\r\nUser-Agent: libshout/2.4.6\r\n" +
			"Connection: Upgrade\r\nUpgrade: TLS/1.0, HTTP/1.1\r\n\r\n", http.StatusOK, false},
		{head + common + "Content-Length: 0\r\nConnection: Keep-Alive\r\n\r\n", http.StatusUnauthorized, false},
		{head + "Authorization: Basic " + login + "\r\n" + common + "\r\n", http.StatusOK, true},
	} {
		conn, err := ask(ctx, u.Host, try.request, try.status)
		if err != nil {
			return nil, err
		}
		if try.keep {
			return &shoutSource{conn: conn}, nil
		}
		_ = conn.Close() // libshout uses a connection for each step
	}
	return nil, errRefused
}

// ask sends one request on a connection of its own and checks the status.
func ask(ctx context.Context, host, request string, status int) (net.Conn, error) {
	dialer := net.Dialer{Timeout: sourceWait}
	conn, err := dialer.DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	got, err := exchange(conn, request)
	if err == nil && got != status {
		err = fmt.Errorf("source: status %d instead of %d: %w", got, status, errRefused)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func exchange(conn net.Conn, request string) (status int, err error) {
	if err := conn.SetDeadline(time.Now().Add(sourceWait)); err != nil {
		return 0, fmt.Errorf("source: %w", err)
	}
	if _, err := conn.Write([]byte(request)); err != nil {
		return 0, fmt.Errorf("source: %w", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, fmt.Errorf("source: %w", err)
	}
	_ = resp.Body.Close() // its bytes tell a source nothing
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return 0, fmt.Errorf("source: %w", err)
	}
	return resp.StatusCode, nil
}

// send sends sound in real time, frame by frame.
func (s *shoutSource) send(ctx context.Context, sound []byte) error {
	tick := time.NewTicker(framePause)
	defer tick.Stop()
	for len(sound) > 0 {
		n := min(frameBytes, len(sound))
		if _, err := s.conn.Write(sound[:n]); err != nil {
			return fmt.Errorf("source: %w", err)
		}
		sound, s.sent = sound[n:], s.sent+n
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("source: %w", ctx.Err())
		}
	}
	return nil
}

// Close hangs up: a FIN is all the goodbye that there is.
func (s *shoutSource) Close() error {
	if err := s.conn.Close(); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	return nil
}
