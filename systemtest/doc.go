// Package systemtest tests the appliance as its users meet it: real processes
// of the built binary, three to a cluster, with ffmpeg, ezstream, mpg123, sox
// and curl as clients, and faults as they happen to processes. It also holds
// the benchmarks with their load generator. It knows the public contract only,
// nothing of the product's packages.
package systemtest
