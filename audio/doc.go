// Package audio owns what is known of sound formats: probing WAV, MP3 and Ogg,
// finding MP3 frames in a byte stream, decoding and converting, gain without
// decoding, joining, silence, and making WAV and MP3. DESIGN.md says how.
// It knows nothing of HTTP, of storage or of the cluster.
package audio
