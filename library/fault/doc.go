// Package fault names what can be wrong with a request to the library or to one
// of its parts. What a fault means to a client, its status and its code, the
// library says.
package fault
