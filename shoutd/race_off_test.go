//go:build !race

package shoutd

// raceFactor: see race_on_test.go.
const raceFactor = 1
