// Package tcptest owns what tests of several packages need of TCP.
package tcptest
