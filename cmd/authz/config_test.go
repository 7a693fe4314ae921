package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// unsetAll keeps the tester's own variables out.
func unsetAll(t *testing.T) {
	t.Helper()
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, envPrefix+"_") {
			t.Setenv(name, "") // so that it is put back
			os.Unsetenv(name)
		}
	}
}

func TestEachFieldIsReadFromTheVariableThatHelpNames(t *testing.T) {
	values := map[string]string{
		"slice": "http://a.test,http://b.test", "int": "17", "time.Duration": "42s", "slog.Level": "error",
		"main.logFormat": "text", "main.nonceMode": "required", "main.onOff": "off", "main.signingAlg": "EdDSA", "main.newKeys": "sealed", "main.profile": "fapi2", "main.clientCertMode": "request", "string": "something", "bool": "true", "main.secret": "something",
	}
	fields := 0
	for f := range reflect.TypeFor[config]().Fields() {
		fields++
		t.Run(f.Name, func(t *testing.T) {
			unsetAll(t)
			kind := f.Type.String()
			if f.Type.Kind() == reflect.Slice {
				kind = "slice"
			}
			value, ok := values[kind]
			if !ok {
				t.Fatalf("a field of type %s: give this test a value for it", kind)
			}
			before, err := readConfig()
			if err != nil {
				t.Fatal(err)
			}
			t.Setenv(variableName(f.Name), value)
			after, err := readConfig()
			if err != nil {
				t.Fatal(err)
			}
			was, is := reflect.ValueOf(*before).FieldByIndex(f.Index), reflect.ValueOf(*after).FieldByIndex(f.Index)
			if reflect.DeepEqual(was.Interface(), is.Interface()) {
				t.Errorf("%s=%s leaves the field as it is: envconfig reads another variable", variableName(f.Name), value)
			}
			if f.Tag.Get("desc") == "" {
				t.Error("it has no description")
			}
			if !strings.Contains(describeVariables(), "  "+variableName(f.Name)+" ") {
				t.Error("help does not list it")
			}
		})
	}
	if fields == 0 {
		t.Fatal("the struct has no fields")
	}
}

func TestVariableNamesAreTheDocumentedOnes(t *testing.T) {
	var names []string
	for _, v := range variables() {
		names = append(names, v.name)
	}
	want := []string{
		"AUTHZ_ISSUER", "AUTHZ_LISTEN", "AUTHZ_INTERNAL_LISTEN",
		"AUTHZ_GATEWAY_SOCKETS", "AUTHZ_GATEWAY_LISTEN", "AUTHZ_GATEWAY_TLS_CERT_FILE", "AUTHZ_GATEWAY_TLS_KEY_FILE", "AUTHZ_GATEWAY_CLIENT_CA_FILE",
		"AUTHZ_DATABASE_URL", "AUTHZ_DATABASE_URL_FILE",
		"AUTHZ_TOKEN_ENDPOINT_ALIASES", "AUTHZ_KEY_ENCRYPTION_KEY", "AUTHZ_KEY_ENCRYPTION_KEY_FILE",
		"AUTHZ_PKCS11_MODULE", "AUTHZ_PKCS11_TOKEN", "AUTHZ_PKCS11_PIN", "AUTHZ_PKCS11_PIN_FILE", "AUTHZ_PKCS11_NEW_KEYS",
		"AUTHZ_SIGNING_ALG", "AUTHZ_KEY_ROTATION", "AUTHZ_KEY_PUBLISH_AHEAD",
		"AUTHZ_DPOP_NONCE", "AUTHZ_DPOP_NONCE_SECRET", "AUTHZ_DPOP_NONCE_SECRET_FILE",
		"AUTHZ_TLS_CERT_FILE", "AUTHZ_TLS_KEY_FILE",
		"AUTHZ_TLS_CLIENT_CERT", "AUTHZ_TLS_CLIENT_CA_FILE", "AUTHZ_CLIENT_CERT_PROXIES", "AUTHZ_TRUSTED_PROXIES", "AUTHZ_MTLS_URL", "AUTHZ_PROFILE", "AUTHZ_PROOF_LIFETIME", "AUTHZ_CLOCK_SKEW",
		"AUTHZ_JWKS_URI_NETWORKS", "AUTHZ_JWKS_URI_CA_FILE", "AUTHZ_ASSERTION_AUDIENCE_TOKEN_ENDPOINT",
		"AUTHZ_MAX_CONNECTIONS", "AUTHZ_MAX_IN_FLIGHT", "AUTHZ_FAILURES_PER_CLIENT", "AUTHZ_FAILURES_PER_ADDRESS", "AUTHZ_DRAIN_DELAY",
		"AUTHZ_TRACE_PARENTS",
		"AUTHZ_METRICS_CLIENTS",
		"AUTHZ_BEHAVIOUR", "AUTHZ_ALERT_WEBHOOK", "AUTHZ_ALERT_WEBHOOK_SECRET", "AUTHZ_ALERT_WEBHOOK_SECRET_FILE",
		"AUTHZ_SERVICE_DOCUMENTATION", "AUTHZ_LOG_LEVEL", "AUTHZ_LOG_FORMAT",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
}

func TestDefaultsAreAValidConfiguration(t *testing.T) {
	unsetAll(t)
	t.Setenv("AUTHZ_ISSUER", "https://auth.example.com")
	c, err := readConfig()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.validateServe(); err != nil {
		t.Error(err)
	}
}

func TestUnprefixedVariablesAreNotRead(t *testing.T) {
	unsetAll(t)
	for f := range reflect.TypeFor[config]().Fields() {
		t.Setenv(strings.TrimPrefix(variableName(f.Name), envPrefix+"_"), "17s")
	}
	c, err := readConfig()
	if err != nil {
		t.Fatal(err)
	}
	if c.Issuer != "" || c.DatabaseURL != "" || c.ProofLifetime.String() != "1m0s" {
		t.Errorf("read %+v", *c)
	}
}

func TestBadValueStopsTheStartAndNamesTheVariable(t *testing.T) {
	for _, c := range []struct{ variable, value, says string }{
		{"AUTHZ_ISSUER", "", "AUTHZ_ISSUER is not set"},
		{"AUTHZ_ISSUER", "auth.example.com", "not an absolute URL"},
		{"AUTHZ_ISSUER", "http://auth.example.com", "http is for loopback hosts only"},
		{"AUTHZ_ISSUER", "https://auth.example.com/", "trailing slash"},
		{"AUTHZ_LISTEN", "8080", "host:port"},
		{"AUTHZ_LISTEN", "", "host:port"},
		{"AUTHZ_INTERNAL_LISTEN", "localhost", "host:port"},
		{"AUTHZ_TOKEN_ENDPOINT_ALIASES", "https://ok.test/oauth/token,/oauth/token", "other URLs"},
		{"AUTHZ_TLS_CERT_FILE", "cert.pem", "set together"},
		{"AUTHZ_TLS_KEY_FILE", "key.pem", "set together"},
		{"AUTHZ_PROOF_LIFETIME", "0s", "1s to 10m"},
		{"AUTHZ_PROOF_LIFETIME", "11m", "1s to 10m"},
		{"AUTHZ_PROOF_LIFETIME", "60", "1s to 10m"},
		{"AUTHZ_CLOCK_SKEW", "0s", "1s to 5m"},
		{"AUTHZ_CLOCK_SKEW", "6m", "1s to 5m"},
		{"AUTHZ_SERVICE_DOCUMENTATION", "docs", "a URL for the metadata"},
		{"AUTHZ_BEHAVIOUR", "maybe", "on or off"},
		{"AUTHZ_SIGNING_ALG", "HS256", "ES256, EdDSA, PS256 or RS256"},
		{"AUTHZ_KEY_ROTATION", "23h", "24h or more"},
		{"AUTHZ_KEY_ROTATION", "47h", "twice the next one"},
		{"AUTHZ_KEY_ROTATION", "-1h", "0 for never"},
		{"AUTHZ_KEY_PUBLISH_AHEAD", "2h", "3h to 720h"},
		{"AUTHZ_KEY_PUBLISH_AHEAD", "721h", "3h to 720h"},
		{"AUTHZ_DPOP_NONCE", "sometimes", "off or required"},
		{"AUTHZ_JWKS_URI_NETWORKS", "10.20.0.0/16,10.20.0.1", "besides public addresses"},
		{"AUTHZ_JWKS_URI_NETWORKS", "10.20.0.1/16", "besides public addresses"},
		{"AUTHZ_TRUSTED_PROXIES", "10.1.2.0/28,10.20.0.1", "believed for a client's address"},
		{"AUTHZ_TRUSTED_PROXIES", "0.0.0.0/0", "wider than /8"},
		{"AUTHZ_ASSERTION_AUDIENCE_TOKEN_ENDPOINT", "maybe", "true or false"},
		{"AUTHZ_MAX_CONNECTIONS", "0", "1 or more"},
		{"AUTHZ_MAX_CONNECTIONS", "many", "1 or more"},
		{"AUTHZ_MAX_IN_FLIGHT", "-1", "1 to 65536"},
		{"AUTHZ_MAX_IN_FLIGHT", "65537", "1 to 65536"},
		{"AUTHZ_FAILURES_PER_CLIENT", "0", "1 to 1000000"},
		{"AUTHZ_FAILURES_PER_ADDRESS", "1000001", "1 to 1000000"},
		{"AUTHZ_DRAIN_DELAY", "-1s", "0s to 5s"},
		{"AUTHZ_DRAIN_DELAY", "6s", "0s to 5s"},
		{"AUTHZ_TRACE_PARENTS", "10.20.0.0/16,10.20.0.1", "peers whose header traceparent"},
		{"AUTHZ_TRACE_PARENTS", "10.20.0.1/16", "peers whose header traceparent"},
		{"AUTHZ_METRICS_CLIENTS", "some", "true or false"},
		{"AUTHZ_LOG_LEVEL", "loud", "debug, info, warn or error"},
		{"AUTHZ_LOG_FORMAT", "xml", "json or text"},
	} {
		t.Run(c.variable+"="+c.value, func(t *testing.T) {
			unsetAll(t)
			t.Setenv("AUTHZ_ISSUER", "https://auth.example.com")
			t.Setenv(c.variable, c.value)
			read, err := readConfig()
			if err == nil {
				err = read.validateServe()
			}
			if err == nil {
				t.Fatal("it is accepted")
			}
			parts := strings.Split(c.value, ",")
			was := parts[len(parts)-1]
			for _, part := range []string{c.variable, c.says, was} {
				if !strings.Contains(err.Error(), part) {
					if part == was && strings.Contains(c.says, "set together") {
						continue // what is wrong is that the other is missing
					}
					t.Errorf("%q does not say %q", err, part)
				}
			}
		})
	}
}

func TestBadSecretIsNotRepeated(t *testing.T) {
	long := base64.StdEncoding.EncodeToString([]byte("sesame-and-sesame-and-sesame-and-sesame"))
	for _, c := range []struct{ variable, value, says string }{
		{"AUTHZ_KEY_ENCRYPTION_KEY", "", "is not set"},
		{"AUTHZ_KEY_ENCRYPTION_KEY", "sesame!", "not base64"},
		{"AUTHZ_KEY_ENCRYPTION_KEY", long, "has 39 bytes"},
		{"AUTHZ_KEY_ENCRYPTION_KEY", base64.StdEncoding.EncodeToString(make([]byte, 32)) + "," + long, "has 39 bytes"},
		{"AUTHZ_DPOP_NONCE_SECRET", "sesame!", "base64 of 32 bytes"},
		{"AUTHZ_DPOP_NONCE_SECRET", long + ",c2VzYW1lCg==", "base64 of 32 bytes"},
		{"AUTHZ_DATABASE_URL", "", "is not set"},
		{"AUTHZ_DATABASE_URL", "mysql://u:sesame@h/db?sslmode=disable", "postgres://"},
		{"AUTHZ_DATABASE_URL", "postgres://u:sesame@h:port/db", "well-formed"},
		{"AUTHZ_DATABASE_URL", "host=h password=sesame", "postgres://"},
	} {
		t.Run(c.variable+" "+c.says, func(t *testing.T) {
			for _, viaFile := range []bool{false, true} {
				unsetAll(t)
				if viaFile {
					file := filepath.Join(t.TempDir(), "secret")
					if err := os.WriteFile(file, []byte(c.value+"\n"), 0o600); err != nil {
						t.Fatal(err)
					}
					t.Setenv(c.variable+"_FILE", file)
				} else {
					t.Setenv(c.variable, c.value)
				}
				read, err := readConfig()
				if err != nil {
					t.Fatal(err)
				}
				_, err = read.database()
				switch c.variable {
				case "AUTHZ_KEY_ENCRYPTION_KEY":
					_, err = read.sealingKeys(sealingKeyToMake)
				case "AUTHZ_DPOP_NONCE_SECRET":
					_, err = read.nonceSecrets(nil)
				}
				says := c.says
				if viaFile && c.value == "" {
					says = "is empty"
				}
				if err == nil || !strings.Contains(err.Error(), c.variable) || !strings.Contains(err.Error(), says) {
					t.Errorf("%v, want %s and %q", err, c.variable, says)
				}
				shown := fmt.Sprintf("%v %+v %#v", err, *read, *read)
				if c.value != "" && (strings.Contains(shown, "sesame") || strings.Contains(shown, c.value)) {
					t.Errorf("the secret is in %s", shown)
				}
			}
		})
	}
}

func TestSecretIsReadFromItsFile(t *testing.T) {
	unsetAll(t)
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte("postgres://u@h/db\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AUTHZ_DATABASE_URL_FILE", file)
	c, err := readConfig()
	if err != nil {
		t.Fatal(err)
	}
	if url, err := c.database(); err != nil || url != "postgres://u@h/db" {
		t.Errorf("%q, %v", url, err)
	}
	t.Setenv("AUTHZ_DATABASE_URL", "postgres://u@h/other")
	if c, err = readConfig(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.database(); err == nil || !strings.Contains(err.Error(), "both set") {
		t.Errorf("two sources of one secret: %v", err)
	}
}

func TestMisspeltVariablesAreFound(t *testing.T) {
	got := unknownVariables([]string{
		"AUTHZ_ISSUER=x", "AUTHZ_ISUER=x", "AUTHZ_DATABASE_URL_FIEL=x", "AUTHZ=x", "OTHER_ISSUER=x",
		"AUTHZ_SERVICE_HOST=10.0.0.1", "AUTHZ_SERVICE_PORT_HTTP=80", "AUTHZ_PORT_80_TCP=tcp://10.0.0.1:80", // Kubernetes
		"AUTHZ_SERVICE_DOCUMENTATION=x",
	})
	slices.Sort(got)
	if diff := cmp.Diff([]string{"AUTHZ_DATABASE_URL_FIEL", "AUTHZ_ISUER"}, got); diff != "" {
		t.Errorf("unknown variables (-want +got):\n%s", diff)
	}
}

func TestShellQuoteMakesOneWord(t *testing.T) {
	for text, want := range map[string]string{
		"authz": "authz", "/a b/authz": "'/a b/authz'", "it's": `'it'\''s'`, "": "''", "a&b": "'a&b'", "$x": "'$x'",
	} {
		if got := shellQuote(text); got != want {
			t.Errorf("shellQuote(%q) = %s, want %s", text, got, want)
		}
	}
}

func TestBadWebhookIsNotRepeated(t *testing.T) {
	const good = "whsec_c2VzYW1lc2VzYW1lc2VzYW1lc2VzYW1l"
	for _, c := range []struct{ url, secret, says string }{
		{"https://hooks.test/sesame", "", "AUTHZ_ALERT_WEBHOOK_SECRET is not set"},
		{"", good, "AUTHZ_ALERT_WEBHOOK is not set"},
		{"http://hooks.test/sesame", good, "http is for loopback hosts only"},
		{"https://user:sesame@hooks.test/", good, "it has a user"},
		{"hooks.test/sesame", good, "not an absolute URL"},
		{"https://hooks.test/sesame", "c2VzYW1l", "does not begin with whsec_"},
		{"https://hooks.test/sesame", "whsec_c2VzYW1l", "not of 24 to 64 bytes"},
		{"https://hooks.test/sesame", good + ",whsec_sesame!", "not base64"},
	} {
		for _, viaFile := range []bool{false, true} {
			unsetAll(t)
			t.Setenv("AUTHZ_ALERT_WEBHOOK", c.url)
			if viaFile && c.secret != "" {
				file := filepath.Join(t.TempDir(), "secret")
				if err := os.WriteFile(file, []byte(c.secret+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				t.Setenv("AUTHZ_ALERT_WEBHOOK_SECRET_FILE", file)
			} else {
				t.Setenv("AUTHZ_ALERT_WEBHOOK_SECRET", c.secret)
			}
			read, err := readConfig()
			if err != nil {
				t.Fatal(err)
			}
			_, err = read.watching()
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
			if shown := fmt.Sprintf("%v %+v %#v", err, *read, *read); strings.Contains(shown, "sesame") || strings.Contains(shown, "c2VzYW1l") {
				t.Errorf("it is in %s", shown)
			}
		}
	}
	unsetAll(t)
	t.Setenv("AUTHZ_ALERT_WEBHOOK", "https://hooks.test/sesame")
	t.Setenv("AUTHZ_ALERT_WEBHOOK_SECRET", good+", "+good)
	t.Setenv("AUTHZ_BEHAVIOUR", "off")
	read, err := readConfig()
	if err != nil {
		t.Fatal(err)
	}
	if w, err := read.watching(); err != nil || w.webhook == nil || !w.off {
		t.Errorf("%+v, %v", w, err)
	}
}
