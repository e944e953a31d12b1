// Package naming says what accounts and items may be called, and how a name
// that was refused is told back. What a name leads to the library knows.
package naming
