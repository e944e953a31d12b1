// Package memtest owns what benchmarks of several packages need of the machine's memory.
package memtest
