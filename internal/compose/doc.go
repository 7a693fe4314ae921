// Package compose has no code: its test, behind the build tag compose, tries
// the compose file end to end.
package compose
