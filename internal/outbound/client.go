package outbound

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/net/http/httpguts"

	"carillon/library/delivery"
	"carillon/library/fault"
)

const (
	// dialWait bounds connecting: what is not there within this is down.
	dialWait = 5 * time.Second
	// tlsWait bounds the handshake after it.
	tlsWait = 5 * time.Second
	// stallMaxDefault is how long a connection may stand still: an object store
	// that assembles what it was sent takes tens of seconds to answer.
	stallMaxDefault = time.Minute
	// idleWait keeps a connection for the next event of a webhook.
	idleWait = 30 * time.Second
	// answerBytesMax is what is read of an answer: enough for a reason, and
	// the connection can be used again.
	answerBytesMax = 16 << 10
	// textBytesMax is what is kept of it.
	textBytesMax = 200
	// headerBytesMax and headersMax bound what a caller may add.
	headerBytesMax = 8 << 10
	headersMax     = 32
	// answerHeaderBytesMax bounds the head of an answer.
	answerHeaderBytesMax = 64 << 10
	// connsPerHostMax bounds what one target can bind here.
	connsPerHostMax = 8
	// retryAfterMax bounds what a target may ask for.
	retryAfterMax = time.Hour
)

// Config says who may be reached.
type Config struct {
	// Allow and Deny: of all networks that an address lies in, the smallest
	// decides; in both: denied; in none: denied.
	Allow, Deny []netip.Prefix
	// UserAgent names us to the target.
	UserAgent string
	// StallMax is how long a connection may stand still; 0: a minute.
	StallMax time.Duration
}

// Client implements delivery.Sender. Its methods may be called concurrently.
type Client struct {
	cfg       Config
	rules     rules
	transport *http.Transport
}

var _ delivery.Sender = (*Client)(nil)

// Open makes a client. It takes no proxy from the environment: the rules are
// about the address that is dialled.
func Open(cfg Config) (*Client, error) {
	c := &Client{cfg: cfg, rules: rules{cfg.Allow, cfg.Deny}}
	c.cfg.StallMax = cmp.Or(cfg.StallMax, stallMaxDefault)
	dialer := &net.Dialer{Timeout: dialWait, Control: c.rules.control}
	c.transport = &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err //nolint:wrapcheck // it names the address
			}
			return stallConn{conn, c.cfg.StallMax}, nil
		},
		TLSHandshakeTimeout: tlsWait, IdleConnTimeout: min(idleWait, c.cfg.StallMax),
		MaxResponseHeaderBytes: answerHeaderBytesMax, MaxConnsPerHost: connsPerHostMax,
		MaxIdleConnsPerHost: connsPerHostMax, DisableCompression: true, ForceAttemptHTTP2: false,
	}
	return c, nil
}

// Close closes idle connections. It may be called twice.
func (c *Client) Close() error {
	c.transport.CloseIdleConnections()
	return nil
}

// CheckHeader implements delivery.Sender.
func (c *Client) CheckHeader(header map[string]string) error {
	if len(header) > headersMax {
		return fmt.Errorf("%d headers, at most %d: %w", len(header), headersMax, fault.ErrBadRequest)
	}
	size := 0
	for name, value := range header {
		size += len(name) + len(value)
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return fmt.Errorf("header %q is not well formed: %w", name, fault.ErrBadRequest)
		}
		if slices.Contains(ours(), textproto.CanonicalMIMEHeaderKey(name)) {
			return fmt.Errorf("header %q is set by the sender: %w", name, fault.ErrBadRequest)
		}
	}
	if size > headerBytesMax {
		return fmt.Errorf("headers of %d bytes, at most %d: %w", size, headerBytesMax, fault.ErrBadRequest)
	}
	return nil
}

// ours are headers that frame the message.
func ours() []string {
	return []string{
		"Connection", "Content-Length", "Expect", "Host", "Keep-Alive", "Proxy-Authorization",
		"Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	}
}

// Send implements delivery.Sender.
func (c *Client) Send(ctx context.Context, d delivery.Request) (delivery.Receipt, error) {
	u, err := parseTarget(d.URL)
	if err != nil {
		return delivery.Receipt{}, err
	}
	if err := c.CheckHeader(d.Header); err != nil {
		return delivery.Receipt{}, err
	}
	body := d.Body
	if d.Size == 0 {
		body = http.NoBody
	}
	req, err := http.NewRequestWithContext(ctx, d.Method, u.String(), body)
	if err != nil {
		return delivery.Receipt{}, fmt.Errorf("%s %s: %w", d.Method, shownTarget(u), fault.ErrTarget)
	}
	req.ContentLength = d.Size
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	for name, value := range d.Header {
		req.Header.Set(name, value)
	}
	// Who says both means the header: a proxy in front may want it.
	if name := u.User.Username(); name != "" && req.Header.Get("Authorization") == "" {
		password, _ := u.User.Password()
		req.SetBasicAuth(name, password)
	}
	resp, err := c.transport.RoundTrip(req) // a Client would follow redirects
	if err != nil {
		return delivery.Receipt{}, sendError(d.Method, shownTarget(u), err)
	}
	text, readErr := io.ReadAll(io.LimitReader(resp.Body, answerBytesMax))
	closeErr := resp.Body.Close()
	if err := errors.Join(readErr, closeErr); err != nil && len(text) == 0 && resp.StatusCode >= 300 {
		text = []byte(err.Error())
	}
	return delivery.Receipt{
		Status: resp.StatusCode, Text: printable(text), RetryAfter: retryAfter(resp.Header.Get("Retry-After")),
	}, nil
}

// sendError says what went wrong without repeating a URL, which may hold
// secrets.
func sendError(method, target string, err error) error {
	return fmt.Errorf("%s %s: %w", method, target, err)
}

// printable is the beginning of an answer as a person may see it.
func printable(b []byte) string {
	text := strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(string(b[:min(len(b), 2*textBytesMax)]), ""))
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > textBytesMax {
		text = strings.ToValidUTF8(text[:textBytesMax], "")
	}
	return text
}

// retryAfter reads seconds or a date.
func retryAfter(value string) time.Duration {
	if seconds, err := strconv.Atoi(strings.TrimSpace(value)); err == nil && seconds > 0 {
		return time.Duration(min(seconds, int(retryAfterMax/time.Second))) * time.Second
	}
	if when, err := http.ParseTime(value); err == nil {
		return min(max(time.Until(when), 0), retryAfterMax)
	}
	return 0
}

// stallConn ends a connection on which nothing moves in either direction.
type stallConn struct {
	net.Conn

	stallMax time.Duration
}

func (s stallConn) Read(p []byte) (int, error) {
	if err := s.SetDeadline(time.Now().Add(s.stallMax)); err != nil {
		return 0, err //nolint:wrapcheck // of a closed connection
	}
	return s.Conn.Read(p) //nolint:wrapcheck // io.Reader
}

func (s stallConn) Write(p []byte) (int, error) {
	if err := s.SetDeadline(time.Now().Add(s.stallMax)); err != nil {
		return 0, err //nolint:wrapcheck // of a closed connection
	}
	return s.Conn.Write(p) //nolint:wrapcheck // io.Writer
}
