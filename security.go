package troupe

import (
	"crypto/tls"
	"errors"
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
	defer func() { *p = securityProperties{} }() // secrets need not stay
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
	construct, ok := map[string]func(user, password string) sasl.Mechanism{
		"PLAIN": sasl.Plain, "SCRAM-SHA-256": sasl.Scram256, "SCRAM-SHA-512": sasl.Scram512,
	}[p.mechanism]
	switch {
	case p.mechanism == "":
		return nil, refuse("sasl.mechanism", "expected PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, or WithSASL with another; Kafka's default, GSSAPI, is not supported")
	case !ok:
		return nil, refuse("sasl.mechanism", "%q is not one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512; others, and OAUTHBEARER, come in by WithSASL", p.mechanism)
	}
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
	switch {
	case user == "":
		return nil, refuse("sasl.username", "expected a name, here or in sasl.jaas.config")
	case password == "":
		return nil, refuse("sasl.password", "expected one, here or in sasl.jaas.config")
	}
	return construct(user, password), nil
}
