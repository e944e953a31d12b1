// Package audience owns the listeners who wait: for a sound that goes on, of which
// it writes to all from a few goroutines, in few and large pieces, and drops
// those that fall behind; or for room to hear more of one that is there already.
// It knows how many there may be. A listener costs it a socket and some hundred
// bytes, no goroutine and no buffer. It does not know what is played, nor who may
// listen.
package audience
