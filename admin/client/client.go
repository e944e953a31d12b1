package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"carillon/blobstore"
	"carillon/library"
	"carillon/library/field"
)

// Limits of the client. Transfers themselves have no time limit: the caller's
// context ends them.
const (
	// connectWait: a node on the same network answers in milliseconds, one far
	// away within a second; beyond that it is down.
	connectWait = 5 * time.Second
	// answerWait is longer than any write of ours waits for a majority.
	answerWait = 60 * time.Second
	// expectWait is how long a body waits for `100 Continue`. A server that
	// refuses says so at once; the others answer at once, too.
	expectWait = 2 * time.Second
	// idleWait is below the server's, so that the client closes first.
	idleWait = 30 * time.Second
	// answerBytesMax bounds a JSON answer: a page of 1,000 documents with full
	// metadata.
	answerBytesMax = 32 << 20
	// expectBytesMin: smaller bodies are cheaper to send than to ask about.
	expectBytesMin = 64 << 10
)

// Client speaks to one node.
type Client struct {
	base  *url.URL
	token string
	http  *http.Client
	codes map[string]error
}

// New returns a client of the node at server ("http://host:8080", or
// "host:8080"). The token may be empty for what needs none.
func New(server, token string) (*Client, error) {
	if !strings.Contains(server, "://") {
		server = "http://" + server
	}
	base, err := url.Parse(strings.TrimRight(server, "/"))
	if err != nil {
		return nil, fmt.Errorf("server address: %w", err)
	}
	if base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("server address %q: want http://host:port: %w", server, library.ErrBadRequest)
	}
	dialer := &net.Dialer{Timeout: connectWait}
	return &Client{
		base:  base,
		token: token,
		http: &http.Client{
			Transport: &http.Transport{
				Proxy:                 http.ProxyFromEnvironment,
				DialContext:           dialer.DialContext,
				TLSHandshakeTimeout:   connectWait,
				ResponseHeaderTimeout: answerWait,
				ExpectContinueTimeout: expectWait,
				IdleConnTimeout:       idleWait,
				MaxIdleConnsPerHost:   8, // a CLI does one thing at a time, a test a few
				DisableCompression:    true,
			},
			// A redirect would carry the token to a host that nobody named.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		codes: codes(),
	}, nil
}

// String names the server and hides the token.
func (c *Client) String() string { return c.base.Redacted() }

// Close frees idle connections. It may be called twice.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// Error is an error answer of the server.
type Error struct {
	Status    int
	Code      string
	Message   string
	RequestID string
	// Fields say which parts of the request are at fault, if it is that.
	Fields field.Errors
	kind   error
}

// Error returns the message, and the request id if it helps whoever reads the
// server's log.
func (e *Error) Error() string {
	msg := e.Message
	if msg == "" {
		msg = strings.ToLower(http.StatusText(e.Status))
	}
	if e.Status >= http.StatusInternalServerError && e.RequestID != "" {
		return fmt.Sprintf("%s (status %d, request %s)", msg, e.Status, e.RequestID)
	}
	return msg
}

// Unwrap returns the library's sentinel for the code, if there is one.
func (e *Error) Unwrap() error { return e.kind }

// codes inverts library.FaultOf.
func codes() map[string]error {
	m := make(map[string]error)
	for _, err := range []error{
		library.ErrNotFound, library.ErrBadName, library.ErrBadRequest, library.ErrUnsupportedMedia,
		library.ErrTooLarge, library.ErrIncomplete, library.ErrPrecondition, library.ErrUnauthorized,
		library.ErrTicketUsed, library.ErrMountInUse, library.ErrState, library.ErrExpired, library.ErrBadToken,
		library.ErrGone, library.ErrExists, library.ErrQuota, library.ErrTarget, library.ErrLimit,
		library.ErrUnavailable, library.ErrTrimmed,
		blobstore.ErrConflict, blobstore.ErrNoSpace, blobstore.ErrCorrupt,
	} {
		if f := library.FaultOf(err); f.Code != "internal" {
			m[f.Code] = err
		}
	}
	return m
}

// failure reads an error answer. Playback answers have no body; there the
// status says all that is known.
func (c *Client) failure(resp *http.Response) error {
	e := &Error{Status: resp.StatusCode, RequestID: resp.Header.Get("X-Request-Id")}
	var body struct {
		Error struct {
			Code      string `json:"code"`
			Message   string `json:"message"`
			RequestID string `json:"request_id"`

			Fields field.Errors `json:"fields"`
		} `json:"error"`
		Reason string `json:"reason"` // of /readyz
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, answerBytesMax))
	if err == nil && json.Unmarshal(b, &body) == nil {
		e.Code, e.Message, e.Fields = body.Error.Code, body.Error.Message, body.Error.Fields
	}
	if body.Error.RequestID != "" {
		e.RequestID = body.Error.RequestID
	}
	if e.Message == "" {
		e.Message = body.Reason
	}
	e.kind = c.codes[e.Code]
	if e.Code == "" {
		e.kind = kindOf(resp.StatusCode)
	}
	return e
}

// kindOf a status without a code.
func kindOf(status int) error {
	switch status {
	case http.StatusNotFound:
		return library.ErrNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		return library.ErrUnauthorized
	case http.StatusPreconditionFailed:
		return library.ErrPrecondition
	case http.StatusBadRequest:
		return library.ErrBadRequest
	case http.StatusServiceUnavailable:
		return library.ErrUnavailable
	}
	return nil
}

// request makes a request. Path segments must be escaped already.
func (c *Client) request(ctx context.Context, method, path string, q url.Values, body io.Reader) (
	*http.Request, error,
) {
	u := c.base.String() + path
	if len(q) > 0 {
		u += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return req, nil
}

// do sends the request. Answers other than 2xx come back as an *Error.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok { // its text repeats the whole URL
			err = ue.Err
		}
		return nil, fmt.Errorf("%s %s: %w", req.Method, c.base.Host, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	err = c.failure(resp)
	return nil, errors.Join(err, resp.Body.Close())
}

// call sends in (nil for none) as JSON and decodes the answer into out (nil
// for none).
func (c *Client) call(ctx context.Context, method, path string, q url.Values, in, out any) error {
	return c.callIf(ctx, method, path, q, "", "", in, out)
}

// callIf is call with the conditional headers If-Match and If-None-Match, ""
// for none.
func (c *Client) callIf(
	ctx context.Context, method, path string, q url.Values, ifMatch, ifNoneMatch string, in, out any,
) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := c.request(ctx, method, path, q, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if ifMatch != "" {
		req.Header.Set("If-Match", ifMatch)
	}
	if ifNoneMatch != "" {
		req.Header.Set("If-None-Match", ifNoneMatch)
	}
	resp, err := c.do(req)
	if err != nil {
		return err
	}
	return decode(resp, out)
}

// decode reads the answer to its end and closes it. Fields that this client
// does not know are a newer server's, and no error.
func decode(resp *http.Response, out any) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, answerBytesMax))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("decode the answer: %w", err)
	}
	return nil
}
