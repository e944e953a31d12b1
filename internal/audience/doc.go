// Package audience owns the listeners of sounds that go on: it writes to all of
// them from a few goroutines, in few and large pieces, drops those that fall
// behind, and knows how many there may be. A listener costs it a socket and
// some hundred bytes, no goroutine and no buffer. It does not know what is
// played, nor who may listen.
package audience
