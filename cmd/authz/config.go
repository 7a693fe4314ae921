package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/kelseyhightower/envconfig"

	"github.com/cargokey/authz/authz"
	"github.com/cargokey/authz/dpopbind"
	"github.com/cargokey/authz/jwks"
)

const envPrefix = "AUTHZ"

// config is all that the program reads from the environment, as AUTHZ_ and the
// field's name. The envconfig tag is not used: it would make the library look
// for the name without the prefix as well.
type config struct {
	Issuer               string         `split_words:"true" desc:"this server's issuer URL: https, host and port only (http for loopback)"`
	Listen               string         `split_words:"true" default:":8080" desc:"address of the public listener"`
	InternalListen       string         `split_words:"true" default:"127.0.0.1:9090" desc:"address of the internal listener: /healthz, /readyz, /metrics, /gateway/verify"`
	GatewaySockets       []string       `split_words:"true" desc:"client_id=/path/of/socket, comma-separated: Unix sockets for gateways; who can open one is that gateway"`
	GatewayListen        string         `split_words:"true" desc:"address of a listener for gateways with certificates of their own (tls_client_auth); needs the next three"`
	GatewayTLSCertFile   string         `split_words:"true" desc:"its certificate chain, PEM; read again when it changes"`
	GatewayTLSKeyFile    string         `split_words:"true" desc:"its private key, PEM"`
	GatewayClientCAFile  string         `split_words:"true" desc:"the authorities that gateways' certificates are from, PEM, and nobody else's; read again when it changes"`
	DatabaseURL          secret         `split_words:"true" desc:"Postgres: postgres://user:password@host/database; with several hosts, comma-separated, the primary of them"`
	DatabaseURLFile      string         `split_words:"true" desc:"a file to read it from instead"`
	TokenEndpointAliases []string       `split_words:"true" desc:"other URLs of the token endpoint that a client may sign as htu, comma-separated"`
	KeyEncryptionKey     secret         `split_words:"true" desc:"seals the signing keys at rest: 32 random bytes, base64 (openssl rand -base64 32); several, comma-separated, while one is replaced: the first seals, all open"`
	KeyEncryptionKeyFile string         `split_words:"true" desc:"a file to read it from instead"`
	Pkcs11Module         string         `split_words:"true" desc:"path of an HSM's PKCS #11 module: new signing keys are made in the HSM and do not leave it; needs the next two, and a build with -tags pkcs11"`
	Pkcs11Token          string         `split_words:"true" desc:"label of the HSM's token"`
	Pkcs11Pin            secret         `split_words:"true" desc:"PIN of the token's user"`
	Pkcs11PinFile        string         `split_words:"true" desc:"a file to read it from instead"`
	Pkcs11NewKeys        newKeys        `split_words:"true" default:"hsm" desc:"hsm or sealed: where new signing keys are, if there is an HSM; sealed is the way back, while those in the HSM end"`
	SigningAlg           signingAlg     `split_words:"true" default:"ES256" desc:"ES256, EdDSA, PS256 or RS256: what tokens are signed by, where their resource has not chosen, and all else"`
	KeyRotation          time.Duration  `split_words:"true" default:"720h" desc:"how often a new signing key takes over: 24h or more, and twice the next one; 0 for never"`
	KeyPublishAhead      time.Duration  `split_words:"true" default:"24h" desc:"how long a signing key is in the JWKS before it signs: 3h to 720h"`
	DpopNonce            nonceMode      `split_words:"true" default:"off" desc:"off or required: whether every proof must carry the server's nonce; clients can be registered to need one"`
	DpopNonceSecret      secret         `split_words:"true" desc:"what nonces are derived from: 32 random bytes or more, base64, the same for all instances; several, comma-separated, while one is replaced: the first makes, all check (default: derived from the key encryption key)"`
	DpopNonceSecretFile  string         `split_words:"true" desc:"a file to read it from instead"`
	TLSCertFile          string         `split_words:"true" desc:"certificate chain, PEM: serve TLS 1.3; read again when it changes"`
	TLSKeyFile           string         `split_words:"true" desc:"its private key, PEM"`
	TLSClientCert        clientCertMode `split_words:"true" default:"off" desc:"off or request: whether that TLS asks clients for certificates of theirs (mutual TLS); who has none gets in all the same"`
	TLSClientCAFile      string         `split_words:"true" desc:"the authorities that certificates for tls_client_auth are from, PEM; read again when it changes"`
	ClientCertProxies    []string       `split_words:"true" desc:"networks, such as 10.1.2.0/28, comma-separated: proxies that end TLS, and whose header Client-Cert (RFC 9440) is believed; nobody else's is"`
	TrustedProxies       []string       `split_words:"true" desc:"networks, such as 10.1.2.0/28, comma-separated: proxies whose header X-Forwarded-For or Forwarded is believed for a client's address, in the log, the audit trail and the limits of failures; with no clients in them"`
	MtlsURL              string         `split_words:"true" desc:"where clients with certificates find this server, if not at the issuer URL: https, host and port only"`
	Profile              profile        `split_words:"true" desc:"fapi2 holds the whole server to the FAPI 2.0 Security Profile: no secrets, no bearer tokens, no RS256"`
	ProofLifetime        time.Duration  `split_words:"true" default:"60s" desc:"how long a DPoP proof is accepted after its iat: 1s to 10m"`
	ClockSkew            time.Duration  `split_words:"true" default:"15s" desc:"how far a client's clock may be off, either way: 1s to 5m"`
	JwksUriNetworks      []string       `split_words:"true" desc:"networks that a client's jwks_uri may lead to besides public addresses, such as 10.20.0.0/16, comma-separated"`
	JwksUriCAFile        string         `split_words:"true" desc:"authorities of the hosts there besides the system's, PEM"`

	AssertionAudienceTokenEndpoint bool `split_words:"true" default:"false" desc:"true or false: whether the aud of a client assertion may also be a URL of the token endpoint, and not the issuer alone"`

	MaxConnections     int           `split_words:"true" default:"10000" desc:"connections that each listener keeps: 1 or more; beyond it idle ones make room"`
	MaxInFlight        int           `split_words:"true" default:"0" desc:"requests in work at a time, on the public listener and again for gateways; the rest gets 503: 1 to 65536, or 0 for 64 for each core"`
	FailuresPerClient  int           `split_words:"true" default:"60" desc:"failed authentications of a client in a minute that are answered and logged one by one: 1 to 1000000"`
	FailuresPerAddress int           `split_words:"true" default:"300" desc:"the same from an address, or from an IPv6 /64: 1 to 1000000"`
	DrainDelay         time.Duration `split_words:"true" default:"0s" desc:"how long it serves on after SIGTERM, not ready, until balancers have noticed: 0s to 5s"`

	TraceParents   []string `split_words:"true" desc:"networks, such as 10.20.0.0/16, comma-separated: peers whose header traceparent is a request's parent where traces are on (OTEL_EXPORTER_OTLP_ENDPOINT); to everyone else's there is a link"`
	MetricsClients bool     `split_words:"true" default:"false" desc:"true or false: whether metrics have a label with the id of the registered client that they are about"`

	Behaviour              onOff  `split_words:"true" default:"on" desc:"on or off: whether this instance takes part in the analysis of clients' behaviour; one at a time is at it"`
	AlertWebhook           secret `split_words:"true" desc:"where alerts go: an https URL (http for loopback), the same for all instances; needs the next one"`
	AlertWebhookSecret     secret `split_words:"true" desc:"signs them: whsec_ and base64 of 24 to 64 random bytes (echo whsec_$(openssl rand -base64 32)); several, comma-separated, while one is replaced: all sign"`
	AlertWebhookSecretFile string `split_words:"true" desc:"a file to read it from instead"`

	ServiceDocumentation string     `split_words:"true" desc:"a URL for the metadata: where developers read about this server"`
	LogLevel             slog.Level `split_words:"true" default:"info" desc:"debug, info, warn or error"`
	LogFormat            logFormat  `split_words:"true" default:"json" desc:"json or text"`
}

// secret is a value that is never printed.
type secret string

func (secret) LogValue() slog.Value { return slog.StringValue("REDACTED") }
func (secret) String() string       { return "REDACTED" }
func (secret) GoString() string     { return "REDACTED" }

type logFormat string

// Set is called by envconfig.
func (f *logFormat) Set(s string) error {
	if s != "json" && s != "text" {
		return errors.New("json or text")
	}
	*f = logFormat(s)
	return nil
}

// onOff is empty where nothing was configured.
type onOff string

// Set is called by envconfig.
func (o *onOff) Set(s string) error {
	if s != "on" && s != "off" {
		return errors.New("on or off")
	}
	*o = onOff(s)
	return nil
}

type nonceMode string

// Set is called by envconfig.
func (m *nonceMode) Set(s string) error {
	if s != "off" && s != "required" {
		return errors.New("off or required")
	}
	*m = nonceMode(s)
	return nil
}

// profile is an authz.Profile that is known.
type profile string

// Set is called by envconfig.
func (p *profile) Set(s string) error {
	if !slices.Contains(authz.Profiles(), authz.Profile(s)) {
		return errors.New("empty or fapi2")
	}
	*p = profile(s)
	return nil
}

// signingAlg is a jwks.Algorithm that is known.
type signingAlg string

// Set is called by envconfig, and for flags.
func (a *signingAlg) Set(s string) error {
	if !slices.Contains(jwks.Algorithms(), jwks.Algorithm(s)) {
		return fmt.Errorf("it may be one of %q", jwks.Algorithms())
	}
	*a = signingAlg(s)
	return nil
}

// readConfig reads the environment. The error names the variable, what it was
// and what it may be; of a secret it does not say what it was.
func readConfig() (*config, error) {
	var c config
	err := envconfig.Process(envPrefix, &c)
	var parse *envconfig.ParseError
	if errors.As(err, &parse) {
		return nil, badValue(parse.KeyName, parse.Value, fieldTag(parse.FieldName, "desc"))
	}
	if err != nil {
		return nil, fmt.Errorf("reading the environment: %w", err)
	}
	return &c, nil
}

// readConfig is readConfig for a command that does not log.
func (p *program) readConfig() (*config, error) {
	for _, name := range unknownVariables(os.Environ()) {
		p.warn(unknownVariable + ": " + name)
	}
	return readConfig()
}

const unknownVariable = "a variable is not known and not used; see authz serve --help"

func badValue(variable, was, may string) error {
	return fmt.Errorf("%s is %q; it may be: %s", variable, was, may)
}

func fieldTag(field, tag string) string {
	f, _ := reflect.TypeFor[config]().FieldByName(field)
	return f.Tag.Get(tag)
}

// readSecret takes a secret from its variable, or from the file that its _FILE
// variable names. It is called where the secret is needed: an operator may not
// be allowed to read them all.
func readSecret(variable string, value secret, file string) (string, error) {
	if file == "" {
		return string(value), nil
	}
	if value != "" {
		return "", fmt.Errorf("%s and %s_FILE are both set: set one of them", variable, variable)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("%s_FILE: %w", variable, err)
	}
	read := strings.TrimSpace(string(text))
	if read == "" {
		return "", fmt.Errorf("%s_FILE: %s is empty", variable, file)
	}
	return read, nil
}

// databaseVariable is the one that the URL is from.
func (c *config) databaseVariable() string {
	if c.DatabaseURLFile != "" {
		return "AUTHZ_DATABASE_URL_FILE"
	}
	return "AUTHZ_DATABASE_URL"
}

// database is the URL, which every command but a few needs.
func (c *config) database() (string, error) {
	url, err := readSecret("AUTHZ_DATABASE_URL", c.DatabaseURL, c.DatabaseURLFile)
	if err != nil {
		return "", err
	}
	may := fieldTag("DatabaseURL", "desc")
	if url == "" {
		return "", errors.New("AUTHZ_DATABASE_URL is not set: " + may)
	}
	// pgx would take a mistyped URL for a list of settings, and send it to a
	// server that quotes it in its answer.
	if !strings.HasPrefix(url, "postgres://") && !strings.HasPrefix(url, "postgresql://") {
		return "", errors.New("AUTHZ_DATABASE_URL does not begin with postgres://; it may be: " + may)
	}
	if _, err := pgxpool.ParseConfig(url); err != nil { // whose text may quote the password
		return "", errors.New("AUTHZ_DATABASE_URL is not a well-formed URL; it may be: " + may)
	}
	return url, nil
}

// What AUTHZ_KEY_ENCRYPTION_KEY is: to a server, which may be the first one, and to
// an operator's command. A command that was given a new key would seal with it what
// no server opens.
const (
	sealingKeyToMake = "32 random bytes in base64; make one by: openssl rand -base64 32"
	sealingKeyToHave = "32 random bytes in base64; give it as the servers have it: `authz key list` shows its digest"
)

// sealingKeys are the keys that open the signing keys; the first one seals.
func (c *config) sealingKeys(may string) ([][]byte, error) {
	text, err := readSecret("AUTHZ_KEY_ENCRYPTION_KEY", c.KeyEncryptionKey, c.KeyEncryptionKeyFile)
	if err != nil {
		return nil, err
	}
	if text == "" {
		return nil, errors.New("AUTHZ_KEY_ENCRYPTION_KEY is not set: it is " + may)
	}
	var keys [][]byte
	for one := range strings.SplitSeq(text, ",") {
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(one))
		if err != nil {
			return nil, errors.New("AUTHZ_KEY_ENCRYPTION_KEY is not base64: it is " + may)
		}
		if len(key) != jwks.SealingKeySize {
			return nil, fmt.Errorf("AUTHZ_KEY_ENCRYPTION_KEY has %d bytes: it is %s", len(key), may)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// sealer is for commands that make or open signing keys.
func (c *config) sealer() (*jwks.Sealer, error) {
	keys, err := c.sealingKeys(sealingKeyToHave)
	if err != nil {
		return nil, err
	}
	return jwks.NewSealer(keys...)
}

// nonceSecrets are those of the variable, or the sealing keys: what is derived
// from them for nonces tells nothing of them, and all instances have them.
func (c *config) nonceSecrets(sealingKeys [][]byte) ([][]byte, error) {
	text, err := readSecret("AUTHZ_DPOP_NONCE_SECRET", c.DpopNonceSecret, c.DpopNonceSecretFile)
	if err != nil {
		return nil, err
	}
	if text == "" {
		return sealingKeys, nil
	}
	var secrets [][]byte
	for one := range strings.SplitSeq(text, ",") {
		secret, err := base64.StdEncoding.DecodeString(strings.TrimSpace(one))
		if err != nil || len(secret) < dpopbind.MinNonceSecret {
			return nil, errors.New("AUTHZ_DPOP_NONCE_SECRET is not base64 of 32 bytes or more; it may be: " + fieldTag("DpopNonceSecret", "desc"))
		}
		secrets = append(secrets, secret)
	}
	return secrets, nil
}

// validateServe checks what "authz serve" needs beyond the types.
func (c *config) validateServe() error {
	if c.Issuer == "" {
		return errors.New("AUTHZ_ISSUER is not set: " + fieldTag("Issuer", "desc"))
	}
	if err := authz.ValidateIssuer(c.Issuer); err != nil {
		return fmt.Errorf("%w: %w", badValue("AUTHZ_ISSUER", c.Issuer, fieldTag("Issuer", "desc")), err)
	}
	if (c.TLSCertFile == "") != (c.TLSKeyFile == "") {
		return errors.New("AUTHZ_TLS_CERT_FILE and AUTHZ_TLS_KEY_FILE are set together or not at all")
	}
	if err := c.validateClientCerts(); err != nil {
		return err
	}
	if _, err := c.trustedProxies(); err != nil {
		return err
	}
	if err := c.validateGateways(); err != nil {
		return err
	}
	if c.ProofLifetime < time.Second || c.ProofLifetime > 10*time.Minute {
		return badValue("AUTHZ_PROOF_LIFETIME", c.ProofLifetime.String(), fieldTag("ProofLifetime", "desc"))
	}
	if c.ClockSkew < time.Second || c.ClockSkew > 5*time.Minute {
		return badValue("AUTHZ_CLOCK_SKEW", c.ClockSkew.String(), fieldTag("ClockSkew", "desc"))
	}
	if err := c.validateKeyRotation(); err != nil {
		return err
	}
	if _, err := c.jwksURINetworks(); err != nil {
		return err
	}
	if _, err := c.traceParents(); err != nil {
		return err
	}
	if err := c.validateLimits(); err != nil {
		return err
	}
	return c.validateURLs()
}

// validateLimits names the variable that is wrong.
func (c *config) validateLimits() error {
	for _, l := range []struct {
		field           string
		value, from, to int
	}{
		{"MaxConnections", c.MaxConnections, 1, 1 << 24},
		{"MaxInFlight", c.MaxInFlight, 0, 1 << 16},
		{"FailuresPerClient", c.FailuresPerClient, 1, maxFailures},
		{"FailuresPerAddress", c.FailuresPerAddress, 1, maxFailures},
	} {
		if l.value < l.from || l.value > l.to {
			return badValue(variableName(l.field), strconv.Itoa(l.value), fieldTag(l.field, "desc"))
		}
	}
	if c.DrainDelay < 0 || c.DrainDelay > maxDrainDelay {
		return badValue("AUTHZ_DRAIN_DELAY", c.DrainDelay.String(), fieldTag("DrainDelay", "desc"))
	}
	return nil
}

// maxFailures bounds both limits of failures, in a minute.
const maxFailures = 1_000_000

// validateKeyRotation names the variable that is wrong.
func (c *config) validateKeyRotation() error {
	if err := authz.ValidateKeyRotation(0, c.KeyPublishAhead); err != nil {
		return badValue("AUTHZ_KEY_PUBLISH_AHEAD", c.KeyPublishAhead.String(), fieldTag("KeyPublishAhead", "desc"))
	}
	if err := authz.ValidateKeyRotation(c.KeyRotation, c.KeyPublishAhead); err != nil {
		return badValue("AUTHZ_KEY_ROTATION", c.KeyRotation.String(), fieldTag("KeyRotation", "desc"))
	}
	return nil
}

// validateURLs checks the listeners' addresses and the URLs but the issuer's.
func (c *config) validateURLs() error {
	for _, l := range []struct{ field, address string }{{"Listen", c.Listen}, {"InternalListen", c.InternalListen}} {
		if _, port, err := net.SplitHostPort(l.address); err != nil || port == "" {
			return badValue(variableName(l.field), l.address, fieldTag(l.field, "desc")+", as host:port or :port")
		}
	}
	for i, alias := range c.TokenEndpointAliases {
		alias = strings.TrimSpace(alias)
		c.TokenEndpointAliases[i] = alias
		if _, err := dpopbind.NormalizeURL(alias); err != nil {
			return fmt.Errorf("%w: the URL %w", badValue("AUTHZ_TOKEN_ENDPOINT_ALIASES", alias, fieldTag("TokenEndpointAliases", "desc")), err)
		}
	}
	if c.ServiceDocumentation != "" {
		if u, err := url.Parse(c.ServiceDocumentation); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return badValue("AUTHZ_SERVICE_DOCUMENTATION", c.ServiceDocumentation, fieldTag("ServiceDocumentation", "desc"))
		}
	}
	return nil
}

func (c *config) logHandler(w io.Writer) slog.Handler {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "text" {
		return slog.NewTextHandler(w, options)
	}
	return slog.NewJSONHandler(w, options)
}

// unknownVariables are those that look like ours but are none, such as
// misspelt ones. Kubernetes sets AUTHZ_SERVICE_… and AUTHZ_PORT… for a Service
// of that name.
func unknownVariables(environ []string) []string {
	known := map[string]bool{}
	for _, v := range variables() {
		known[v.name] = true
	}
	var unknown []string
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, envPrefix+"_") || known[name] ||
			strings.HasPrefix(name, "AUTHZ_SERVICE_HOST") || strings.HasPrefix(name, "AUTHZ_SERVICE_PORT") ||
			strings.HasPrefix(name, "AUTHZ_PORT") {
			continue
		}
		unknown = append(unknown, name)
	}
	return unknown
}

type variable struct{ name, def, desc string }

// variables lists the struct's fields as variables.
func variables() []variable {
	var list []variable
	for f := range reflect.TypeFor[config]().Fields() {
		list = append(list, variable{variableName(f.Name), f.Tag.Get("default"), f.Tag.Get("desc")})
	}
	return list
}

// variableName splits words as envconfig does.
func variableName(field string) string {
	var b strings.Builder
	for i, r := range field {
		upper := r >= 'A' && r <= 'Z'
		if i > 0 && upper {
			before := field[i-1]
			endsAcronym := i+1 < len(field) && field[i+1] >= 'a' && field[i+1] <= 'z'
			if before >= 'a' && before <= 'z' || endsAcronym {
				b.WriteByte('_')
			}
		}
		b.WriteRune(r)
	}
	return envPrefix + "_" + strings.ToUpper(b.String())
}

// describeVariables is the help's list.
func describeVariables() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, v := range variables() {
		def := v.def
		if def == "" {
			def = "-"
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\n", v.name, def, v.desc)
	}
	w.Flush()
	return b.String()
}
