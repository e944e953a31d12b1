// Package backup keeps backups of a whole cluster in a directory: it takes them
// and restores them as a client of the API, and verifies them without one.
//
// A directory holds generations, each the catalog as it was at one log position,
// and the blobs that any of them refers to, once. Blobs never change, so a new
// generation costs what is new. The files:
//
//	backup.json            the generations, newest last
//	catalog-POSITION.jsonl rows of the catalog, in order of their keys
//	deleted-POSITION.jsonl keys that the generation before had, if there are any
//	blobs-POSITION.jsonl   what is known of each blob, in order of their ids
//	blobs/ab/abcdef…       the bytes of a blob
//
// It knows no meaning of rows but that of references.
package backup
