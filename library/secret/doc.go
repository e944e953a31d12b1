// Package secret owns texts that must not be seen: they print as *** wherever
// they come, and passwords are kept as hashes.
package secret
