// Package wire owns how nodes write numbers, texts and descriptions of blobs into
// the bytes that they send one another and keep in their logs, and a decoder that
// reads them: it never reads past the end, takes no memory beyond what it was
// given, and says at the end whether all was as it should be.
//
// What a message means, and which there are, it does not know.
package wire
