package troupe

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"github.com/troupe-kafka/troupe/sasl"
)

// WithTLS encrypts every connection (security.protocol=SSL, or SASL_SSL). A nil config
// trusts the system's authorities. Without a ServerName in it, a broker's certificate
// must be for the host that the broker advertises. For client certificates that change
// while the producer runs, set GetClientCertificate.
func WithTLS(tlsConfig *tls.Config) Option {
	return set("WithTLS", func(c *config) {
		if c.tls = tlsConfig; tlsConfig == nil {
			c.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		}
	})
}

// WithSASL has every connection show who the producer is, by a mechanism of package sasl
// or one of your own (security.protocol=SASL_PLAINTEXT, or SASL_SSL beside WithTLS).
// Where brokers limit sessions (KIP-368), a connection is replaced by another shortly
// before its session ends, when what is in flight on it has been answered.
func WithSASL(mechanism sasl.Mechanism) Option {
	return func(c *config) error {
		if mechanism == nil || mechanism.Name() == "" {
			return refuse("WithSASL", "expected a mechanism with a name")
		}
		c.named["WithSASL"], c.SASL = true, mechanism
		return nil
	}
}

// securityProperties are what Kafka's property names say about security. What they mean
// together is settled when all of them are known.
type securityProperties struct {
	protocol                        string
	mechanism, jaas, user, password string
	trust                           pemSource // the authorities
	key                             pemSource // the client's certificate and its key
	keyPassword                     string
	identification                  string // ssl.endpoint.identification.algorithm
	protocols                       string // ssl.enabled.protocols
	// named are the properties that were given, without security.protocol.
	named []string
}

// pemSource is where certificates and a key come from: a file with all of it, or text in
// the property itself (KIP-651).
type pemSource struct{ kind, file, text, keyText string }

// security is a property that is taken down as it is.
func security(name string, field func(*securityProperties) *string) property {
	return func(v string) ([]Option, error) {
		return one(func(c *config) error {
			*field(&c.security) = v
			c.security.named = append(c.security.named, name)
			return nil
		})
	}
}

func parseSecurityProtocol(v string) ([]Option, error) {
	switch v = strings.ToUpper(v); v {
	case "PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL":
		return one(func(c *config) error { c.security.protocol = v; return nil })
	}
	return nil, errors.New("not one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL")
}

// secrets are properties whose value no error repeats.
var secrets = map[string]bool{"sasl.jaas.config": true, "sasl.password": true, "ssl.keystore.key": true, "ssl.key.password": true}

// resolveSecurity turns the properties into the options that they stand for, and checks
// that what was given is used: a password that goes nowhere is a mistake.
func (c *config) resolveSecurity() error {
	p := &c.security
	encrypted, authenticated := strings.HasSuffix(p.protocol, "SSL"), strings.HasPrefix(p.protocol, "SASL_")
	for _, name := range p.named {
		if strings.HasPrefix(name, "ssl.") && !encrypted || strings.HasPrefix(name, "sasl.") && !authenticated {
			return refuse(name, "it has no effect without security.protocol=%s", map[bool]string{true: "SSL or SASL_SSL", false: "SASL_PLAINTEXT or SASL_SSL"}[strings.HasPrefix(name, "ssl.")])
		}
		if strings.HasPrefix(name, "ssl.") && c.tls != nil || strings.HasPrefix(name, "sasl.") && c.SASL != nil {
			return refuse(name, "it contradicts WithTLS or WithSASL")
		}
	}
	switch {
	case p.protocol == "":
	case c.tls != nil && !encrypted:
		return refuse("security.protocol", "%s contradicts WithTLS", p.protocol)
	case c.SASL != nil && !authenticated:
		return refuse("security.protocol", "%s contradicts WithSASL", p.protocol)
	}
	if authenticated && c.SASL == nil {
		mechanism, err := p.saslMechanism()
		if err != nil {
			return err
		}
		c.SASL = mechanism
	}
	if encrypted && c.tls == nil {
		tlsConfig, err := p.tlsConfig()
		if err != nil {
			return err
		}
		c.tls = tlsConfig
	}
	if c.seams != nil && c.seams.Transport != nil && c.tls != nil {
		return refuse("WithTLS", "the transport of WithSeams opens connections as it sees fit")
	}
	return nil
}

// saslMechanism is what sasl.mechanism names, with the credentials beside it.
func (p *securityProperties) saslMechanism() (sasl.Mechanism, error) {
	user, password := p.user, p.password
	if p.jaas != "" {
		if user != "" || password != "" {
			return nil, refuse("sasl.jaas.config", "it contradicts sasl.username and sasl.password")
		}
		var err error
		if user, password, err = parseJAAS(p.jaas, p.mechanism); err != nil {
			return nil, refuse("sasl.jaas.config", "%v", err)
		}
	}
	construct, ok := map[string]func(user, password string) sasl.Mechanism{
		"PLAIN": sasl.Plain, "SCRAM-SHA-256": sasl.Scram256, "SCRAM-SHA-512": sasl.Scram512,
	}[p.mechanism]
	switch {
	case p.mechanism == "":
		return nil, refuse("sasl.mechanism", "expected PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, or WithSASL with another; Kafka's default, GSSAPI, is not supported")
	case !ok:
		return nil, refuse("sasl.mechanism", "%q is not one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512; others, and OAUTHBEARER, come in by WithSASL", p.mechanism)
	case user == "":
		return nil, refuse("sasl.username", "expected a name, here or in sasl.jaas.config")
	}
	return construct(user, password), nil
}

// parseJAAS reads a login as Java's clients are given it:
//
//	org.apache.kafka.common.security.plain.PlainLoginModule required username="…" password="…";
func parseJAAS(text, mechanism string) (user, password string, err error) {
	module, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	want := "PlainLoginModule"
	if strings.HasPrefix(mechanism, "SCRAM-") {
		want = "ScramLoginModule"
	}
	if !strings.HasSuffix(module, "."+want) {
		return "", "", fmt.Errorf("expected the module org.apache.kafka.common.security…%s for the mechanism %s", want, mechanism)
	}
	flag, rest, _ := strings.Cut(strings.TrimSpace(rest), " ")
	if flag != "required" && flag != "requisite" && flag != "sufficient" && flag != "optional" {
		return "", "", errors.New(`expected "required" behind the module`)
	}
	for rest = strings.TrimSpace(rest); rest != "" && rest != ";"; rest = strings.TrimSpace(rest) {
		name, value, found := strings.Cut(rest, "=")
		if !found {
			return "", "", errors.New("expected name=value, and a semicolon at the end")
		}
		if value, rest, err = jaasValue(strings.TrimSpace(value)); err != nil {
			return "", "", err
		}
		switch name = strings.TrimSpace(name); name {
		case "username":
			user = value
		case "password":
			password = value
		default:
			return "", "", fmt.Errorf("%s is not supported; expected username and password", name)
		}
	}
	return user, password, nil
}

// jaasValue takes a value off the front: in quotes, in which \ escapes, or up to a space
// or semicolon.
func jaasValue(s string) (value, rest string, err error) {
	if s == "" || s[0] != '"' && s[0] != '\'' {
		end := strings.IndexAny(s, " \t;")
		if end < 0 {
			end = len(s)
		}
		return s[:end], s[end:], nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == s[0]:
			return b.String(), s[i+1:], nil
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return "", "", errors.New("a quotation mark is not closed")
}
