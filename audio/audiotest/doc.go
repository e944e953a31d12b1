// Package audiotest holds what the tests of audio and of its parts share: sounds,
// frames, the programs that other people wrote, and a way to compare.
package audiotest
