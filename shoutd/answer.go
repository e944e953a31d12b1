package shoutd

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"carillon/library"
)

// Answers whose bytes FreeSWITCH was seen to accept (freeswitch-wire.md 2.2).
// What is not in them matters: no Allow (it would switch libshout to PUT), no
// body, always a blank line.
const (
	answerOptions   = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	answerSource    = "HTTP/1.0 200 OK\r\n\r\n"
	answerPut       = "HTTP/1.1 200 OK\r\n\r\n"
	answerContinue  = "HTTP/1.1 100 Continue\r\n\r\n"
	answerChallenge = "HTTP/1.1 401 Unauthorized\r\n" + challenge +
		"Content-Length: 0\r\nConnection: keep-alive\r\n\r\n"
	answerStored = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

	challenge = "WWW-Authenticate: Basic realm=\"carillon\"\r\n"
)

// refusal is an error answer: a status line, no body, close. mod_shout does
// not look at the status and would decode a body as MP3.
func refusal(http11 bool, status int) []byte {
	p := statusLine(make([]byte, 0, 160), http11, status)
	if status == http.StatusUnauthorized {
		p = append(p, challenge...)
	}
	return append(p, "Content-Length: 0\r\nConnection: close\r\n\r\n"...)
}

func statusLine(p []byte, http11 bool, status int) []byte {
	if http11 {
		p = append(p, "HTTP/1.1 "...)
	} else {
		p = append(p, "HTTP/1.0 "...)
	}
	p = strconv.AppendInt(p, int64(status), 10)
	p = append(p, ' ')
	p = append(p, http.StatusText(status)...)
	return append(p, "\r\n"...)
}

// refuse answers with status and ends the connection.
func (c *conn) refuse(r *request, status int) {
	c.server.metrics.answers.WithLabelValues(strconv.Itoa(status)).Inc()
	if c.send(refusal(r != nil && r.http11, status)) == nil {
		c.linger()
	}
}

// options answers libshout's first question, whatever its target: does this
// server want TLS, and PUT?
func (c *conn) options(r *request) bool {
	if err := c.send([]byte(answerOptions)); err != nil {
		return false
	}
	return r.keeps()
}

// unauthorized asks for credentials on a kept connection, so that libshout
// sends the real SOURCE over it.
func (c *conn) unauthorized(r *request) bool {
	if !r.keeps() {
		c.refuse(r, http.StatusUnauthorized)
		return false
	}
	c.server.metrics.answers.WithLabelValues("401").Inc()
	return c.send([]byte(answerChallenge)) == nil
}

// keeps says whether the connection can carry another request: there is no
// body in the way, and the client did not ask for an end.
func (r *request) keeps() bool { return r.length <= 0 && !r.chunked && !r.closing }

// statusOf is the status of an error of the library. That a time ran out is
// the library's being unavailable.
func statusOf(err error) int {
	if head, ok := errors.AsType[*headError](err); ok {
		return head.status
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		err = library.ErrUnavailable
	}
	return library.FaultOf(err).Status
}
