// Package shoutd is the SHOUT door (port 8000): sources in, listeners out. It
// owns the wire: the handshakes of libshout, ffmpeg and curl, the framing of a
// source's bytes, and the delivery of MP3 to players, with its own parser,
// because a SOURCE has no length and ends with a FIN. What a mount means, who
// may write and where bytes live is the library's.
package shoutd
