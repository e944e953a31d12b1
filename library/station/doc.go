// Package station owns continuous streams: an item or a playlist that goes on
// without an end and without gaps, is encoded once for all of a node's listeners,
// and whose position follows the clock, so that it is the same on all nodes. What
// is played, and where its samples come from, the library says.
package station
