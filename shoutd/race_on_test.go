//go:build race

package shoutd

// raceFactor: under the race detector everything in memory has a shadow.
const raceFactor = 2
