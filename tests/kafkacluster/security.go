package kafkacluster

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The listeners that Config.Security opens, each named by its security protocol
// as Cluster.SeedsOf wants it.
const (
	SSL           = "SSL"
	SASLPlaintext = "SASL_PLAINTEXT"
	SASLSSL       = "SASL_SSL"
)

// The one user there is when Security names none.
const (
	DefaultUser     = "alice"
	DefaultPassword = "alice-secret"
)

// Security opens the listeners SSL, SASL_PLAINTEXT and SASL_SSL for clients, on
// every broker and beside those that are always there, which stay plaintext. The
// certificates are made for each cluster: see Cluster.TLS and Cluster.MutualTLS.
//
// Both SASL listeners offer PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512 to Users, and
// OAUTHBEARER to whoever brings an UnsecuredToken.
type Security struct {
	// SSLClientAuth is the ssl.client.auth of the SSL listener: with "required" a
	// client needs the certificate of Cluster.MutualTLS. Empty means "none".
	SSLClientAuth string
	// Users are passwords by name, for PLAIN and for SCRAM; nil means DefaultUser
	// with DefaultPassword. Names are printable ASCII without comma, quote and
	// backslash (StorageTool cannot take others); passwords are any printable text.
	Users map[string]string
	// ConnectionsMaxReauth is connections.max.reauth.ms of both SASL listeners: a
	// broker closes a connection that sends a request so long after it was
	// authenticated without being authenticated again (KIP-368). Zero means never,
	// but sessions with an UnsecuredToken end with the token in any case. Kafka
	// refuses to authenticate a connection again within a second of the last time.
	ConnectionsMaxReauth time.Duration
}

// withDefaults leaves the caller's own Security alone.
func (s *Security) withDefaults() (*Security, error) {
	if s == nil {
		return nil, nil
	}
	filled := *s
	if filled.SSLClientAuth == "" {
		filled.SSLClientAuth = "none"
	}
	if !slices.Contains([]string{"none", "requested", "required"}, filled.SSLClientAuth) {
		return nil, fmt.Errorf("kafkacluster: Security.SSLClientAuth is %q: none, requested and required are known", s.SSLClientAuth)
	}
	if d := filled.ConnectionsMaxReauth; d < 0 || d%time.Millisecond != 0 {
		return nil, fmt.Errorf("kafkacluster: Security.ConnectionsMaxReauth is %v: whole milliseconds are known", d)
	}
	if filled.Users = maps.Clone(filled.Users); filled.Users == nil {
		filled.Users = map[string]string{DefaultUser: DefaultPassword}
	}
	for name, password := range filled.Users {
		if err := checkUser(name, password); err != nil {
			return nil, fmt.Errorf("kafkacluster: Security.Users: %q: %w", name, err)
		}
	}
	return &filled, nil
}

// checkUser refuses what would not reach the brokers as it is: StorageTool splits
// at commas and strips quotes, and a JVM reads arguments in the system's encoding.
func checkUser(name, password string) error {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool {
		return r < ' ' || r > '~' || strings.ContainsRune(`,"\`, r)
	}) {
		return errors.New("the name is empty or has other characters than printable ASCII without comma, quote and backslash")
	}
	if password == "" || !utf8.ValidString(password) || strings.ContainsFunc(password, unicode.IsControl) {
		return errors.New("the password is empty or no printable text")
	}
	return nil
}

// listeners are the names of this Security's listeners: none without one.
func (s *Security) listeners() []string {
	if s == nil {
		return nil
	}
	return []string{SSL, SASLPlaintext, SASLSSL}
}

// properties is what a broker needs to know of the listeners. Everything about
// SASL carries a listener's name, so that no other listener is touched.
func (s *Security) properties(certificates *certificates) map[string]string {
	if s == nil {
		return nil
	}
	p := map[string]string{}
	for _, name := range []string{SSL, SASLSSL} {
		prefix := listenerPrefix(name)
		p[prefix+"ssl.keystore.type"] = "PEM"
		p[prefix+"ssl.keystore.location"] = filepath.ToSlash(certificates.serverKeystore())
		p[prefix+"ssl.truststore.type"] = "PEM"
		p[prefix+"ssl.truststore.location"] = filepath.ToSlash(certificates.truststore())
	}
	p[listenerPrefix(SSL)+"ssl.client.auth"] = s.SSLClientAuth

	jaas := s.jaas()
	for _, name := range []string{SASLPlaintext, SASLSSL} {
		prefix := listenerPrefix(name)
		p[prefix+"sasl.enabled.mechanisms"] = strings.Join(slices.Sorted(maps.Keys(jaas)), ",")
		for mechanism, line := range jaas {
			p[prefix+strings.ToLower(mechanism)+".sasl.jaas.config"] = line
		}
		// Kafka's default to this day, named because UnsecuredToken counts on it.
		p[prefix+"oauthbearer.sasl.server.callback.handler.class"] = "org.apache.kafka.common.security.oauthbearer" +
			".internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler"
		p[prefix+"connections.max.reauth.ms"] = strconv.FormatInt(s.ConnectionsMaxReauth.Milliseconds(), 10)
	}
	return p
}

func listenerPrefix(name string) string { return "listener.name." + strings.ToLower(name) + "." }

// jaas returns the JAAS line of each mechanism.
func (s *Security) jaas() map[string]string {
	const modules = "org.apache.kafka.common.security."
	plain := modules + "plain.PlainLoginModule required"
	for _, name := range slices.Sorted(maps.Keys(s.Users)) {
		plain += " " + jaasQuote("user_"+name) + "=" + jaasQuote(s.Users[name])
	}
	const scram = modules + "scram.ScramLoginModule required;" // the users are in the metadata
	return map[string]string{
		"PLAIN":         plain + ";",
		"SCRAM-SHA-256": scram,
		"SCRAM-SHA-512": scram,
		// A broker logs in itself at its start, though it never uses the token.
		"OAUTHBEARER": modules + `oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";`,
	}
}

// jaasQuote also lets a key hold what would end it without quotes.
func jaasQuote(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}
