package shoutd

import (
	"context"
	"errors"
	"strings"
	"testing"

	"carillon/library"
)

func TestSourceRefusals(t *testing.T) {
	long := strings.Repeat("a", 5000)
	tests := []struct {
		name, request string
		claimErr      error
		status        int
	}{
		{
			name: "wrong password", status: statusFor(library.ErrUnauthorized),
			request: "SOURCE /x HTTP/1.0\r\nAuthorization: Basic Zm9vOnh4\r\n\r\n",
		},
		{
			name: "empty password", status: statusFor(library.ErrUnauthorized),
			request: "SOURCE /x HTTP/1.0\r\nAuthorization: Basic Zm9vOg==\r\n\r\n",
		},
		{
			name: "bearer", status: statusFor(library.ErrUnauthorized),
			request: "SOURCE /x HTTP/1.0\r\nAuthorization: Bearer abc\r\n\r\n",
		},
		{
			name: "bad base64", status: statusFor(library.ErrUnauthorized),
			request: "SOURCE /x HTTP/1.0\r\nAuthorization: Basic $$$\r\n\r\n",
		},
		{name: "unknown mount", claimErr: library.ErrNotFound, status: statusFor(library.ErrNotFound)},
		{name: "bad name", claimErr: library.ErrBadName, status: statusFor(library.ErrBadName)},
		{name: "mount in use", claimErr: library.ErrMountInUse, status: statusFor(library.ErrMountInUse)},
		{name: "no majority", claimErr: library.ErrUnavailable, status: statusFor(library.ErrUnavailable)},
		{name: "too late", claimErr: context.DeadlineExceeded, status: statusFor(library.ErrUnavailable)},
		{name: "other", claimErr: errors.New("boom"), status: 500},
		{name: "bad escape", request: "SOURCE /%zz HTTP/1.0\r\n" + authorization + "\r\n", status: 400},
		{
			name: "bad length", status: 400,
			request: "SOURCE /x HTTP/1.0\r\n" + authorization + "Content-Length: -1\r\n\r\n",
		},
		{
			name: "two lengths", status: 400,
			request: "PUT /x HTTP/1.1\r\n" + authorization + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
		},
		{
			name: "huge length", status: 413,
			request: "PUT /x HTTP/1.1\r\n" + authorization + "Content-Length: 99999999999999999999\r\n\r\n",
		},
		{
			name: "empty body", status: 400,
			request: "PUT /x HTTP/1.1\r\n" + authorization + "Content-Length: 0\r\n\r\n",
		},
		{
			name: "gzip", status: 501,
			request: "PUT /x HTTP/1.1\r\n" + authorization + "Transfer-Encoding: gzip\r\n\r\n",
		},
		{
			name: "PUT with a body and no login", status: 401,
			request: "PUT /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
		},
		{name: "long mount", request: "SOURCE /" + long + " HTTP/1.0\r\n\r\n", status: 414},
		{
			name: "long header", status: 431,
			request: "SOURCE /x HTTP/1.0\r\nAuthorization: Basic " + long + "\r\n\r\n",
		},
		{
			name: "10,000 headers", status: 431,
			request: "SOURCE /x HTTP/1.0\r\n" + strings.Repeat("X: y\r\n", 10000) + "\r\n",
		},
		{
			name: "endless headers", status: 431,
			request: "SOURCE /x HTTP/1.0\r\n" + strings.Repeat("X: "+long[:3000]+"\r\n", 100),
		},
		{name: "half a head", request: "SOURCE /x HTTP/1.0\r\nHost: x", status: 400},
		{name: "half a line", request: "SOUR", status: 400},
		{name: "no version", request: "GET /x\r\n\r\n", status: 400},
		{name: "HTTP/2", request: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", status: 400},
		{name: "method", request: "POST /x HTTP/1.1\r\n\r\n", status: 501},
		{name: "TLS ClientHello", request: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", status: 400},
		{name: "binary after letters", request: "AB\x00\x01\x02", status: 400},
		{name: "MP3", request: "\xff\xe3\x28\xc4", status: 400},
		{name: "empty lines", request: strings.Repeat("\r\n", 20), status: 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := openDoor(t, Config{})
			d.lib.claimErr = tt.claimErr
			c := d.dial(t)
			if tt.request == "" {
				tt.request = "SOURCE /x HTTP/1.0\r\n" + authorization + "\r\n"
			}
			c.send(tt.request)
			if strings.HasPrefix(tt.name, "half") {
				_ = c.CloseWrite()
			}
			c.refused(methodSource, tt.status)
			if n := len(d.lib.claims); n != 0 {
				t.Errorf("%d claims", n)
			}
		})
	}
}
