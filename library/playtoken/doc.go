// Package playtoken owns the signed tokens that stand in playback URLs: what one
// says, how it is signed and checked, and the key, which is configured, or made
// once and kept in the catalog. What a token leads to, and whether that is still
// there, the library says.
package playtoken
