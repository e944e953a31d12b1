// Package outlet owns how one writes to a TCP connection without waiting: who has
// no room is known at once, so that nobody holds a buffer while he waits for it.
// It does not know what is written.
package outlet
