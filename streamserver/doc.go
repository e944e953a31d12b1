// Package streamserver owns playing over HTTP: stored items under /media and
// /play, byte ranges, conditional requests, and recordings that are followed
// while they grow. It does not know who stored or recorded a sound, nor how a
// token is signed; it asks the library.
package streamserver
