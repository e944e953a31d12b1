// Package mpeg knows the frames of MPEG audio: their headers, where the next one
// is in a stream, and how bits are read. What is in them layer3 knows.
package mpeg
