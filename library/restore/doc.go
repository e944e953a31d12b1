// Package restore owns how the rows and blobs of a backup come back into a
// cluster: one restore at a time, into an empty cluster or merged into one that
// holds something, in steps of which each can be taken again.
package restore
