package systemtest

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"time"
)

// envSwitch makes the test binary do on the wire what an application of
// FreeSWITCH does: `record URL FILE` or `play URL`.
const envSwitch = "SYSTEMTEST_SWITCH"

// errSwitch is returned when a node answers what FreeSWITCH could not use.
var errSwitch = errors.New("not what a switch needs")

// switchMain prints what it did.
func switchMain(args []string) int {
	ctx, cancel := context.WithTimeout(context.Background(), toolWait)
	defer cancel()
	err := errSwitch
	switch {
	case len(args) >= 3 && args[0] == "record":
		err = switchRecord(ctx, args[1], args[2])
	case len(args) >= 2 && args[0] == "play":
		err = switchPlay(ctx, args[1])
	}
	if err != nil {
		say("failed", strings.Join(args, " "), err)
		return 1
	}
	return 0
}

// say is for whoever started the program.
func say(words ...any) { _, _ = fmt.Fprintln(os.Stdout, words...) }

// switchRecord goes through libshout's connections (freeswitch-wire.md 2.1).
func switchRecord(ctx context.Context, raw, file string) error {
	u, err := url.Parse(raw)
	if err != nil {
		return err
	}
	sound, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	headers := "Host: " + u.Host + "\r\nUser-Agent: libshout/2.4.6\r\nContent-Type: audio/mpeg\r\n"
	about := "ice-public: 0\r\nice-name: no name\r\nice-url: http://www.freeswitch.org\r\n" +
		"ice-description: FreeSWITCH mod_shout Broadcasting Module\r\nice-audio-info: bitrate=24000\r\n" +
		"Prefer: return=minimal\r\n\r\n"
	for request, want := range map[string]string{
		"OPTIONS * HTTP/1.1\r\nHost: " + u.Host + "\r\nUser-Agent: libshout/2.4.6\r\n" +
			"Connection: Upgrade\r\nUpgrade: TLS/1.0, HTTP/1.1\r\n\r\n": " 200 ",
		"SOURCE " + u.EscapedPath() + " HTTP/1.0\r\n" + headers +
			"Content-Length: 0\r\nConnection: Keep-Alive\r\n" + about: " 401 ",
	} {
		answer, err := exchange(ctx, u.Host, request, nil)
		if err != nil || !strings.Contains(answer, want) {
			return fmt.Errorf("%.20q: %q: %w: %w", request, answer, errSwitch, err)
		}
	}
	password, _ := u.User.Password()
	login := base64.StdEncoding.EncodeToString([]byte(u.User.Username() + ":" + password))
	request := "SOURCE " + u.EscapedPath() + " HTTP/1.0\r\nAuthorization: Basic " + login + "\r\n" +
		headers + about
	answer, err := exchange(ctx, u.Host, request, sound)
	if err != nil || answer != "HTTP/1.0 200 OK\r\n\r\n" {
		return fmt.Errorf("SOURCE: %q: %w: %w", answer, errSwitch, err)
	}
	say("record", u.Path, hashOf(sound))
	return nil
}

// exchange sends a request, reads what comes at once, sends the sound and ends
// in order.
func exchange(ctx context.Context, host, request string, sound []byte) (string, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", host)
	if err != nil {
		return "", err
	}
	defer func() { _ = nc.Close() }()
	_ = nc.SetDeadline(time.Now().Add(toolWait))
	if _, err := io.WriteString(nc, request); err != nil {
		return "", err
	}
	var answer [4096]byte
	n, err := nc.Read(answer[:])
	if err != nil || sound == nil {
		return string(answer[:n]), err
	}
	if _, err := nc.Write(sound); err != nil {
		return "", err
	}
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	_, err = io.Copy(io.Discard, nc)
	return string(answer[:n]), err
}

// switchPlay asks as mod_shout does, and takes any answer as it does.
func switchPlay(ctx context.Context, raw string) error {
	u, err := url.Parse(raw)
	if err != nil {
		return err
	}
	host := u.Host
	if u.Port() == "" {
		host += ":80" // mod_shout's default when it plays
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", host)
	if err != nil {
		return err
	}
	defer func() { _ = nc.Close() }()
	_ = nc.SetDeadline(time.Now().Add(toolWait))
	request := "GET " + u.RequestURI() + " HTTP/1.1\r\nHost: " + u.Host +
		"\r\nUser-Agent: FreeSWITCH(mod_shout)/1.0\r\nAccept: */*\r\n\r\n"
	if _, err := io.WriteString(nc, request); err != nil {
		return err
	}
	limit := io.LimitReader(nc, 1<<20) // of a stream without an end
	if strings.Contains(raw, "stream=extant") {
		limit = io.LimitReader(nc, 8<<10)
	}
	answer, err := io.ReadAll(limit)
	head, body, _ := bytes.Cut(answer, []byte("\r\n\r\n"))
	status, _, _ := strings.Cut(string(head), "\r\n")
	say("play", u.Path, strings.Fields(status + " - -")[1], hashOf(body), len(body))
	return err
}
