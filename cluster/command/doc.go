// Package command owns what a log entry says: the encodings of the changes to blobs
// and to the catalog, and their versions. The format is for ever: a byte that names
// it, an operation byte, then the body. Golden files under testdata hold one of each.
//
// A node reads all formats up to its newest, FormatMax; which one the cluster
// writes, and what applies a command, are cluster's.
package command
