//go:build race

package behaviour_test

// raceEnabled leaves out what takes long under the race detector.
const raceEnabled = true
