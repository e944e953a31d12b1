// Package rows owns how the library and its parts write to the catalog: the
// version and the encoding of values, ids that sort by their time, changes that
// are built again when others were faster, and reads that catch up before they
// say that something is not there. Which rows there are, and what is in them,
// each part says for its own.
package rows
