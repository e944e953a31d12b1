// Package ring owns the last bytes of a sound that goes on: one writes them,
// any number read them at offsets of their own, and nobody waits for anybody.
package ring
