// Package library owns what media mean: documents, names and the rules of a
// lookup, settings of accounts, deletion and retention, what a playback URL
// leads to, and the life of a recording from ticket to stored item. DESIGN.md
// says how names and all that was undecided before are decided. It speaks to the
// shelf and the catalog through the interfaces of package blobstore, and knows
// neither HTTP nor Raft.
package library
