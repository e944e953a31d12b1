// Package simnet is a network in memory, for whole clusters inside a
// testing/synctest bubble: hosts with addresses, byte streams and packets,
// that can be cut (both ways or one), delayed, dropped and killed. Everything
// in it blocks on channels only, so a bubble's clock can move.
//
// It knows nothing of what is sent. A [Host] is what package peer wants for a
// network, and makes what memberlist wants for a transport.
package simnet
