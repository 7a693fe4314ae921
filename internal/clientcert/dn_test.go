package clientcert_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"github.com/cargokey/authz/internal/clientcert"
	"github.com/cargokey/authz/internal/clientcert/certtest"
)

func TestEqualDistinguishedNamesHaveOneSpelling(t *testing.T) {
	t.Parallel()
	for normal, spellings := range map[string][]string{
		"CN=labels,O=Example,C=DE":  {"cn=labels,o=Example,c=DE", "CN = labels, O = Example, C = DE", "2.5.4.3=labels,2.5.4.10=Example,2.5.4.6=DE", `CN=\6c\61bels,O=Example,C=DE`},
		"CN=a\\, b":                 {`CN=a\2C b`, `CN=a\, b`, "CN=#0c04612c2062", "CN=#1304612C2062"},
		`CN=\ a\ `:                  {`CN=\20a\20`, `CN= \ a\  `},
		`CN=\#a`:                    {`CN=\23a`},
		"CN=a#b=c":                  {`CN=a\#b\=c`},
		`CN=M\C3\BCller`:            {"CN=Müller", `CN=M\c3\bcller`},
		`CN=\00`:                    {"CN=#0c0100"},
		"CN=":                       {"cn=", "CN= "},
		"UID=b+CN=a,DC=example":     {"CN=a+UID=b,dc=example", " uid = b + cn = a , DC=example"},
		"1.2.3.4=x":                 {"1.2.3.4=#0c0178"},
		"1.2.3.4=#020105":           {"1.2.3.4=#020105"},
		"2.5.4.5=7":                 {"SERIALNUMBER=7", "serialNumber=7"},
		"1.2.840.113549.1.9.1=a@b.": {"emailAddress=a@b."},
		`CN=\"\+\;\<\>\\`:           {`CN=\22\2B\3B\3C\3E\5C`},
	} {
		for _, text := range append(spellings, normal) {
			if got, err := clientcert.NormalDN(text); err != nil || got != normal {
				t.Errorf("%q is %q, %v; want %q", text, got, err, normal)
			}
		}
	}
	for _, pair := range [][2]string{
		{"CN=a,O=b", "O=b,CN=a"}, {"CN=a", "CN=A"}, {"CN=a+O=b", "CN=a,O=b"}, {"CN=a", `CN=a\ `}, {"CN=a,CN=b", `CN=a\,CN=b`}, {"CN=a", "OU=a"},
	} {
		one, errOne := clientcert.NormalDN(pair[0])
		two, errTwo := clientcert.NormalDN(pair[1])
		if errOne != nil || errTwo != nil || one == two {
			t.Errorf("%q and %q: %q, %q, %v, %v", pair[0], pair[1], one, two, errOne, errTwo)
		}
	}
}

func TestWhatIsNoDistinguishedNameIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", " ", "labels", "=labels", "CN", ",", "CN=a,", ",CN=a", "CN=a+", "CN=a,,O=b", "XX=a", "CN=a;O=b", `CN="a"`, "CN=a<b", "CN=a\x00b",
		`CN=a\`, `CN=a\4`, `CN=a\zz`, `CN=\ff`, "CN=#", "CN=#0", "CN=#0c05", "CN=#0c0161ff", "CN=#zz", "1=a", "1.=a", ".1=a", "01.2=a", "1.2a=b", "1.-2=a",
		"/C=DE/O=Example/CN=labels", "CN=\xff", "CN=" + string(make([]byte, 2000)),
	} {
		if got, err := clientcert.NormalDN(text); err == nil {
			t.Errorf("%q is %q", text, got)
		}
	}
}

func TestSubjectOfACertificateHasTheSpellingOfARegisteredName(t *testing.T) {
	t.Parallel()
	multi := pkix.RDNSequence{
		{{Type: asn1.ObjectIdentifier{2, 5, 4, 6}, Value: "DE"}},
		{{Type: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}, Value: "7"}, {Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "a, b"}},
	}
	raw, err := asn1.Marshal(multi)
	if err != nil {
		t.Fatal(err)
	}
	for want, template := range map[string]x509.Certificate{
		"":                         {},
		"CN=labels,O=Example,C=DE": {Subject: pkix.Name{CommonName: "labels", Organization: []string{"Example"}, Country: []string{"DE"}}},
		`CN=M\C3\BCller`:           {Subject: pkix.Name{CommonName: "Müller"}},
		`UID=7+CN=a\, b,C=DE`:      {RawSubject: raw},
		`CN=a\,O\=Example`:         {Subject: pkix.Name{CommonName: "a,O=Example"}}, // which is not two names
	} {
		names, err := clientcert.NamesOf(certtest.SelfSigned(t, template).Leaf)
		if err != nil {
			t.Fatal(err)
		}
		if want != "" {
			if want, err = clientcert.NormalDN(want); err != nil {
				t.Fatal(err)
			}
		}
		if names.SubjectDN != want {
			t.Errorf("%q, want %q", names.SubjectDN, want)
		}
	}
}

func FuzzDN(f *testing.F) {
	for _, text := range []string{"CN=labels,O=Example,C=DE", `CN=\ a\2C+UID=b`, "1.2.3.4=#020105", `CN=M\C3\BCller`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		normal, err := clientcert.NormalDN(text)
		if err != nil {
			return
		}
		if again, err := clientcert.NormalDN(normal); len(normal) <= 1024 && (err != nil || again != normal) {
			t.Errorf("%q is %q, and that %q, %v", text, normal, again, err)
		}
		for _, c := range []byte(normal) {
			if c < ' ' || c > '~' {
				t.Errorf("%q is %q, which is not printable", text, normal)
			}
		}
	})
}
