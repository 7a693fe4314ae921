//go:build !race

package authz_test

// raceEnabled shortens what takes long under the race detector.
const raceEnabled = false
