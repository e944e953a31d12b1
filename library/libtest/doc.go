// Package libtest holds what the tests of the library and of its parts
// share: a store, a receiver of deliveries, and ways to wait and compare.
package libtest
