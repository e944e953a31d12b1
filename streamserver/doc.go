// Package streamserver owns playing over HTTP: stored items under /media and
// /play in any of their forms, byte ranges, conditional requests, recordings
// that are followed while they grow, and continuous streams. It does not know
// who stored or recorded a sound, how it is converted, nor how a token is
// signed; it asks the library.
package streamserver
