//go:build race

package systemtest

// raceDetector says that the tests run under the race detector; the appliance
// they test is built with it, too.
const raceDetector = true
