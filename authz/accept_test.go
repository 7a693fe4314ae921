package authz

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSignedAnswerIsForWhoAsksForItByName(t *testing.T) {
	const jwt = "application/token-introspection+jwt"
	for _, c := range []struct {
		name   string
		accept []string
		want   bool
	}{
		{"named", []string{jwt}, true},
		{"named in other letters", []string{"Application/Token-Introspection+JWT"}, true},
		{"with white space", []string{" \t" + jwt + " \t"}, true},
		{"with the least weight", []string{jwt + ";q=0.001"}, true},
		{"with the most weight", []string{jwt + ";q=1.000"}, true},
		{"with a weight in other letters", []string{jwt + ";Q=0.5"}, true},
		{"with white space around the weight", []string{jwt + " \t; \tq=0.5 "}, true},
		{"with a weight that ends in its point", []string{jwt + ";q=1."}, true},
		{"with a parameter", []string{jwt + `;a=b;c="d,\"e"`}, true},
		{"with a weight before a parameter", []string{jwt + ";q=0.5;a=b"}, true},
		{"with empty parameters", []string{jwt + ";;; q=0.5;"}, true},
		{"as much as JSON", []string{jwt + ", application/json"}, true},
		{"as much as JSON, and after it", []string{"application/json;q=0.5," + jwt + ";q=0.5"}, true},
		{"more than JSON", []string{"application/json;q=0.5, " + jwt}, true},
		{"and JSON never", []string{"application/json;q=0, " + jwt + ";q=0.1"}, true},
		{"as much as anything", []string{jwt + ", */*"}, true},
		{"and JSON less, by the range that is nearest", []string{jwt + ";q=0.5, application/json;q=0.4, application/*, */*"}, true},
		{"and all of its kind less", []string{jwt + ";q=0.5, application/*;q=0.4, */*"}, true},
		{"among others", []string{"text/html, " + jwt + ";q=0.2, image/*"}, true},
		{"among empty members", []string{",, ,\t," + jwt + ", ,"}, true},
		{"in the second header", []string{"text/html", jwt}, true},
		{"in one header, JSON less in another", []string{"application/json;q=0.1", jwt}, true},
		{"with JSON as a parameter's text", []string{jwt + `;a=", application/json"`}, true},

		{"no header", nil, false},
		{"an empty header", []string{""}, false},
		{"empty members", []string{",,"}, false},
		{"JSON", []string{"application/json"}, false},
		{"anything", []string{"*/*"}, false},
		{"anything of its kind", []string{"application/*"}, false},
		{"any JWT", []string{"application/jwt, application/*+jwt"}, false},
		{"something else", []string{"text/html"}, false},
		{"another kind", []string{"text/token-introspection+jwt"}, false},
		{"never", []string{jwt + ";q=0"}, false},
		{"never, in all decimals, and anything else", []string{jwt + ";q=0.000, */*"}, false},
		{"less than JSON", []string{jwt + ";q=0.9, application/json"}, false},
		{"less than JSON in another header", []string{jwt + ";q=0.9", "application/json"}, false},
		{"less than anything", []string{jwt + ";q=0.9, */*"}, false},
		{"less than all of its kind", []string{jwt + ";q=0.9, application/*"}, false},
		{"less than JSON with a parameter", []string{jwt + ";q=0.9, application/json;charset=utf-8"}, false},
		{"within a parameter", []string{`text/html;a="` + jwt + `"`}, false},
		{"within a parameter, after a comma", []string{`text/html;a=",` + jwt + `,"`}, false},

		{"a weight above 1", []string{jwt + ";q=1.001"}, false},
		{"a weight of 2", []string{jwt + ";q=2"}, false},
		{"a weight of four decimals", []string{jwt + ";q=0.1234"}, false},
		{"a weight below 0", []string{jwt + ";q=-1"}, false},
		{"a weight without its zero", []string{jwt + ";q=.5"}, false},
		{"a weight of two digits", []string{jwt + ";q=01"}, false},
		{"a weight in words", []string{jwt + ";q=high"}, false},
		{"a weight in quotes", []string{jwt + `;q="1"`}, false},
		{"a weight with an exponent", []string{jwt + ";q=1e0"}, false},
		{"an empty weight", []string{jwt + ";q="}, false},
		{"a weight without a value", []string{jwt + ";q"}, false},
		{"two weights", []string{jwt + ";q=1;q=1"}, false},
		{"white space before the equals sign", []string{jwt + ";q =1"}, false},
		{"white space after the equals sign", []string{jwt + ";q= 1"}, false},
		{"a kind alone", []string{jwt + ", application"}, false},
		{"no kind", []string{jwt + ", /json"}, false},
		{"no subtype", []string{jwt + ", application/"}, false},
		{"any kind of one subtype", []string{jwt + ", */json"}, false},
		{"three parts", []string{jwt + "/x"}, false},
		{"no comma", []string{jwt + " application/xml"}, false},
		{"white space inside", []string{"application / token-introspection+jwt"}, false},
		{"quotes that do not end", []string{jwt + `;a="b`}, false},
		{"quotes that end in a backslash", []string{jwt + `;a="b\`}, false},
		{"a control character in quotes", []string{jwt + ";a=\"\x01\""}, false},
		{"an escaped control character", []string{jwt + ";a=\"\\\x7f\""}, false},
		{"a line break", []string{jwt + "\n"}, false},
		{"a NUL", []string{jwt + "\x00"}, false},
		{"a letter that is no ASCII", []string{jwt + ", application/é"}, false},
		{"malformed in another header", []string{jwt, "application"}, false},
	} {
		if got := prefers(http.Header{"Accept": c.accept}, mediaIntrospectionJWT, mediaJSON); got != c.want {
			t.Errorf("%s: %q: %v", c.name, c.accept, got)
		}
	}
}

// FuzzAccept holds that what is read can be written down and reads the same,
// also as one of two members, and that a media type is preferred only by a
// request that names it.
func FuzzAccept(f *testing.F) {
	for _, seed := range []string{"", "*/*", "a/b;q=0.5, c/*;d=\"e,\\\"f\";q=1.", ",,a/b ;; q=0.001;", "application/token-introspection+jwt", `a/b;c="`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, field string) {
		header := http.Header{"Accept": {field}}
		if prefers(header, mediaIntrospectionJWT, mediaJSON) && !strings.Contains(strings.ToLower(field), mediaIntrospectionJWT) {
			t.Errorf("%q prefers what it does not name", field)
		}
		ranges, ok := parseAccept(field)
		if !ok {
			return
		}
		var written []string
		for _, r := range ranges {
			if r.quality < 0 || r.quality > 1000 || strings.Count(r.name, "/") != 1 {
				t.Errorf("%q: %+v", field, r)
			}
			written = append(written, fmt.Sprintf("%s;q=%d.%03d", r.name, r.quality/1000, r.quality%1000))
		}
		again, ok := parseAccept(strings.Join(written, ", "))
		if diff := cmp.Diff(ranges, again, cmp.AllowUnexported(mediaRange{})); !ok || diff != "" {
			t.Errorf("%q, written again as %q: %v (-first +again):\n%s", field, written, ok, diff)
		}
		twice, ok := parseAccept(field + "," + field)
		if !ok || len(twice) != 2*len(ranges) {
			t.Errorf("%q twice: %v, %d ranges of %d", field, ok, len(twice), len(ranges))
		}
	})
}
