// Package disktest owns what the tests of several packages put below a raft log: a disk
// that can be told to take its time or to refuse.
package disktest
