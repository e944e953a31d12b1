package tcptest

import (
	"net"
	"testing"
	"time"
)

// wait bounds what the client of a pair waits for; only a failure reaches it.
const wait = 10 * time.Second

// Pair makes a connection over loopback and returns both ends. The client's has
// a deadline and is closed with the test, the server's is the test's.
func Pair(tb testing.TB) (client, server *net.TCPConn) {
	tb.Helper()
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	addr, _ := ln.Addr().(*net.TCPAddr)
	if client, err = net.DialTCP("tcp", nil, addr); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = client.Close() })
	if server, err = ln.AcceptTCP(); err == nil {
		err = client.SetDeadline(time.Now().Add(wait))
	}
	if err != nil {
		tb.Fatal(err)
	}
	return client, server
}
