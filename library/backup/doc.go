// Package backup owns how a cluster is read for a backup: the rows of its catalog
// from one view, every blob that one of them refers to, holds, which keep those
// from the sweep, and the form in which rows and blobs travel. Rows go out and in
// as they are: what a row means is not looked at, so that a backup holds also
// what later releases add. Package restore takes it back; a directory of backups
// is kept by a client of the API, carillon/admin/backup.
package backup
