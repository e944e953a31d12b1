// Package spool owns what a node keeps of uploads and recordings while the
// cluster cannot take them: when something goes to the spool, what its items
// are for, and their replay in the order of arrival. How an upload becomes an
// item and a recording is completed, the library says; the files are those of
// blobstore.Spool.
package spool
