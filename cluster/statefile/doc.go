// Package statefile owns the small files of a node, which are JSON: written so
// that a crash leaves the old or the new, removed so that they stay removed, and
// checked when they are read. An object has a CRC-32C in its last field, over the
// object without that field and without white space: one flipped bit in an
// identity would else be another node, and in a charter another cluster. Files of
// versions that wrote none are read as they are, and versions that know nothing of
// it read past it.
//
// It does not know which files there are.
package statefile
