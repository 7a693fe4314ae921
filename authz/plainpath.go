package authz

import "strings"

// plainPath tells whether a normalised path reads the same to everyone on its way.
// A gateway may merge slashes or decode before it chooses an API, and the API
// behind may take a parameter off a segment, or a dot or a space off its end: where
// they read another path than is looked for here, a token for one thing opens
// another.
func plainPath(path string) bool {
	for _, odd := range []string{"//", "\\", ";", "%2F", "%5C", "%3B", "%25", "%7F"} {
		if strings.Contains(path, odd) {
			return false
		}
	}
	if strings.Contains(path, "%0") || strings.Contains(path, "%1") { // control characters
		return false
	}
	for segment := range strings.SplitSeq(path, "/") {
		if strings.HasSuffix(segment, ".") || strings.HasSuffix(segment, "%20") {
			return false
		}
	}
	return true
}
