package strictjose

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestJSONIsReadAsWritten(t *testing.T) {
	for _, row := range []struct {
		doc  string
		want []string // names and values by turns
	}{
		{`{}`, nil},
		{" {\t}\r\n", nil},
		{`{"a":1}`, []string{"a", "1"}},
		{` { "a" : -1.5e+3 , "b":"x,}]" } `, []string{"a", "-1.5e+3", "b", `"x,}]"`}},
		{`{"":null,"\u0061\"\\\/\b\f\n\r\t":true}`, []string{"", "null", "a\"\\/\b\f\n\r\t", "true"}},
		{`{"\ud83d\ude00":[{},[ ],"\"]"]}`, []string{"😀", `[{},[ ],"\"]"]`}},
		{`{"a":{"a":{"a":{"a":{"a":{"a":{"a":0}}}}}}}`, []string{"a", `{"a":{"a":{"a":{"a":{"a":{"a":0}}}}}}`}},
	} {
		o, err := ParseObject([]byte(row.doc))
		if err != nil {
			t.Errorf("%s: %v", row.doc, err)
			continue
		}
		var got []string
		for _, m := range o {
			got = append(got, m.Name, string(m.Value))
		}
		if strings.Join(got, "\x00") != strings.Join(row.want, "\x00") {
			t.Errorf("%s: got %q", row.doc, got)
		}
	}
}

func TestJSONThatCouldBeReadInTwoWaysIsRefused(t *testing.T) {
	for doc, want := range map[string]string{
		``:                                    "is not valid JSON",
		`{}x`:                                 "is not valid JSON",
		`{"a":01}`:                            "is not valid JSON",
		`{"a":NaN}`:                           "is not valid JSON",
		`[]`:                                  "is not a JSON object",
		`1`:                                   "is not a JSON object",
		`{"a":1,"a":1}`:                       "the member 'a' twice",
		`{"a":1,"\u0061":1}`:                  "the member 'a' twice",
		`{"a":1,"A":1}`:                       "the member 'A' twice",
		`{"s":1,"\u017f":1}`:                  "the member '?' twice", // ſ, long s
		`{"":1,"":1}`:                         "the member '' twice",
		`{"x":[0,{"y":{"a":1,"b":2,"a":3}}]}`: "the member 'a' twice",
		`{"a":"\ud800"}`:                      "unpaired surrogate",
		`{"a":"\ud800\n"}`:                    "unpaired surrogate",
		`{"a":"\ud800\u0041"}`:                "unpaired surrogate",
		`{"a":"\udc00\ud800"}`:                "unpaired surrogate",
		`{"a":[["\ud800x"]]}`:                 "unpaired surrogate",
		"{\"a\":\"\xff\"}":                    "is not valid UTF-8",
		"{\"a\":\"\xed\xa0\x80\"}":            "is not valid UTF-8",
		`{"a":[[[[[[[[0]]]]]]]]}`:             "deeper than 8",
		`{"a":` + strings.Repeat(`{"a":`, 8) + `0` + strings.Repeat(`}`, 9): "deeper than 8",
		strings.Repeat("[", 4000) + strings.Repeat("]", 4000):               "is not a JSON object",
	} {
		if _, err := ParseObject([]byte(doc)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: got %v, want %q", doc, err, want)
		}
	}
}

func TestTimesAreNumbersOfThisEra(t *testing.T) {
	for raw, micros := range map[string]int64{
		"0":              0,
		"-0":             0,
		"1562262616":     1562262616_000000,
		"1562262616.5":   1562262616_500000,
		"1.562262616e9":  1562262616_000000,
		"15622626160E-1": 1562262616_000000,
		"253402300799":   253402300799_000000,
		"1e-400":         0,
	} {
		if got, ok := AsTime([]byte(raw)); !ok || got.UnixMicro() != micros {
			t.Errorf("%s: got %v, %v", raw, got, ok)
		}
	}
	for _, raw := range []string{
		"", "-1", "-0.1", "253402300799.1", "253402300800", "1e308", "1e309", "9223372036854775808", `"1"`, "null", "true", "{}", "[1]",
		"0." + strings.Repeat("0", 31),
	} {
		if got, ok := AsTime([]byte(raw)); ok {
			t.Errorf("%s: accepted as %v", raw, got)
		}
	}
}

// isStrict decides by encoding/json's own tokens what ParseObject is to accept.
func isStrict(doc []byte) bool {
	if !utf8.Valid(doc) || !json.Valid(doc) || bytes.TrimLeft(doc, " \t\r\n")[0] != '{' {
		return false
	}
	// encoding/json replaces unpaired surrogates; other sources of U+FFFD are
	// not told apart, so documents with it are left to the table above.
	type container struct {
		names []string // nil for an array
		isObj bool
		isKey bool
	}
	var stack []*container
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber() // a number may be beyond float64
	for {
		tok, err := dec.Token()
		if err != nil {
			return true
		}
		if d, ok := tok.(json.Delim); ok && (d == '}' || d == ']') {
			stack = stack[:len(stack)-1]
			continue
		}
		if n := len(stack); n > 0 && stack[n-1].isObj {
			top := stack[n-1]
			top.isKey = !top.isKey
			if top.isKey {
				name := tok.(string)
				for _, other := range top.names {
					if strings.EqualFold(other, name) {
						return false
					}
				}
				top.names = append(top.names, name)
				if len(top.names) > maxMembers {
					return false
				}
				continue
			}
		}
		if d, ok := tok.(json.Delim); ok {
			stack = append(stack, &container{isObj: d == '{'})
			if len(stack) > maxDepth {
				return false
			}
		}
	}
}

func FuzzStrictJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":1,"b":[1,{"c":null}],"d":"\u0041\ud83d\ude00"}`, ` { "a" : { } , "A" : 1 } `, `{"a":"\ud800"}`,
		`{"typ":"dpop+jwt","alg":"ES256","jwk":{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}}`,
		`{"a":[[[[[[[[]]]]]]]]}`, `{"a":1,"\u0061":2}`, `{"a":true,"b":false,"c":-1.5E+7}`, `{"a":-7E777,"t":1,"t":2}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		o, err := ParseObject(doc)
		if errors.Is(err, errBadEscape) {
			return
		}
		if strict := isStrict(doc); (err == nil) != strict {
			t.Fatalf("%q: got %v, but strict is %v", doc, err, strict)
		}
		if err != nil {
			return
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(doc, &want); err != nil {
			t.Fatal(err)
		}
		if len(want) != len(o) {
			t.Fatalf("%q: %d members, want %d", doc, len(o), len(want))
		}
		for _, m := range o {
			if !bytes.Equal(m.Value, want[m.Name]) {
				t.Fatalf("%q: %q is %q, want %q", doc, m.Name, m.Value, want[m.Name])
			}
			var s string
			got, ok := AsString(m.Value)
			isString := m.Value[0] == '"' && json.Unmarshal(m.Value, &s) == nil
			if ok != isString || got != s {
				t.Fatalf("%q: %q reads as %q, want %q", doc, m.Name, got, s)
			}
			AsTime(m.Value)
		}
	})
}
