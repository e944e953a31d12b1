// Package library owns what media mean: documents, names and the rules of a
// lookup, signed playback tokens, and the life of a recording from ticket to
// stored item. It speaks to the shelf and the catalog through the interfaces
// of package blobstore, and knows neither HTTP nor Raft.
package library
