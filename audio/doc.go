// Package audio owns what is known of sound formats: probing WAV, MP3 and Ogg,
// finding MP3 frames in a byte stream, and making WAV and MP3 test signals.
// It knows nothing of HTTP, of storage or of the cluster.
package audio
