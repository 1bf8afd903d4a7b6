package troupe

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// tlsConfig is what the properties ssl.* mean.
func (p *securityProperties) tlsConfig() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if err := p.limitVersions(c); err != nil {
		return nil, err
	}
	trusted, name, err := p.trust.certificates("ssl.truststore")
	if err != nil {
		return nil, err
	}
	if name != "" {
		if c.RootCAs, err = authorities(trusted); err != nil {
			return nil, refuse(name, "%v", err)
		}
	}
	if err := p.clientCertificate(c); err != nil {
		return nil, err
	}
	switch strings.ToLower(p.identification) {
	case "https":
	case "":
		if p.gave("ssl.endpoint.identification.algorithm") { // Java's way to turn it off
			verifyChainOnly(c)
		}
	default:
		return nil, refuse("ssl.endpoint.identification.algorithm", "%q is neither https nor empty", p.identification)
	}
	return c, nil
}

// authorities are the certificates of a store, all of which must be some: one that is
// left out in silence is missed when it is needed.
func authorities(text []byte) (*x509.CertPool, error) {
	pool, n := x509.NewCertPool(), 0
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		n++
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("block %d is no certificate", n)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", n, err)
		}
		pool.AddCert(certificate)
	}
	if n == 0 {
		return nil, errors.New("there is no certificate in it")
	}
	return pool, nil
}

func (p *securityProperties) gave(name string) bool {
	return slices.Contains(p.named, name)
}

func (p *securityProperties) limitVersions(c *tls.Config) error {
	if p.protocols == "" {
		return nil
	}
	c.MinVersion, c.MaxVersion = tls.VersionTLS13, tls.VersionTLS12
	for _, v := range splitList(p.protocols) {
		version, ok := map[string]uint16{"TLSv1.2": tls.VersionTLS12, "TLSv1.3": tls.VersionTLS13}[v]
		if !ok {
			return refuse("ssl.enabled.protocols", "%q is neither TLSv1.2 nor TLSv1.3", v)
		}
		c.MinVersion, c.MaxVersion = min(c.MinVersion, version), max(c.MaxVersion, version)
	}
	return nil
}

// certificates reads the PEM of a store, with the name of the property that it is from:
// none if there is no store.
func (s *pemSource) certificates(store string) (text []byte, name string, err error) {
	if s.kind != "" && s.kind != "PEM" {
		return nil, "", refuse(store+".type", "%q is not supported, PEM is (KIP-651); keytool and openssl convert the others", s.kind)
	}
	switch {
	case s.file != "" && s.text != "":
		return nil, "", refuse(store+".location", "it contradicts %s.certificates or %s.certificate.chain", store, store)
	case s.file != "":
		if text, err = os.ReadFile(s.file); err != nil {
			return nil, "", refuse(store+".location", "%v", err)
		}
		return text, store + ".location", nil
	case s.text != "":
		text, err = inLines(s.text)
		name = map[bool]string{true: "ssl.truststore.certificates", false: "ssl.keystore.certificate.chain"}[store == "ssl.truststore"]
		if err != nil {
			err = refuse(name, "%v", err)
		}
		return text, name, err
	}
	return nil, "", nil
}

// clientCertificate sets what the producer shows of itself. A file is read again for each
// connection, since certificates that live for hours are replaced in it.
func (p *securityProperties) clientCertificate(c *tls.Config) error {
	text, name, err := p.key.certificates("ssl.keystore")
	switch {
	case err != nil:
		return err
	case p.keyPassword != "":
		return refuse("ssl.key.password", "encrypted keys are not supported; decrypt the key (openssl pkey), or give a certificate to WithTLS")
	case name == "" && p.key.keyText != "":
		return refuse("ssl.keystore.key", "expected ssl.keystore.certificate.chain beside it")
	case name == "":
		return nil
	}
	if p.key.file != "" && p.key.keyText != "" {
		return refuse("ssl.keystore.key", "it contradicts ssl.keystore.location, whose file has the key as well")
	}
	if p.key.keyText != "" {
		name = "ssl.keystore.key"
	}
	certificate, err := keyPair(text, p.key.keyText)
	if err != nil {
		return refuse(name, "%v", err)
	}
	if p.key.file == "" {
		c.Certificates = []tls.Certificate{certificate}
		return nil
	}
	file := p.key.file
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		text, err := os.ReadFile(file)
		var certificate tls.Certificate
		if err == nil {
			certificate, err = keyPair(text, "")
		}
		if err != nil { // it may be about to be replaced: the connection is tried again
			return nil, fmt.Errorf("ssl.keystore.location: %w", err)
		}
		return &certificate, nil
	}
	return nil
}

// keyPair makes a certificate of a chain and a key, which may stand in one text.
func keyPair(chain []byte, key string) (tls.Certificate, error) {
	keyText := chain
	if key != "" {
		var err error
		if keyText, err = inLines(key); err != nil {
			return tls.Certificate{}, err
		}
	}
	for rest := keyText; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
			return tls.Certificate{}, errEncryptedKey
		}
	}
	certificate, err := tls.X509KeyPair(chain, keyText)
	if err != nil {
		return certificate, fmt.Errorf("no certificate with its key: %w", err)
	}
	return certificate, nil
}

// pemBlock is a block of PEM in a property, where its lines may have become one.
var pemBlock = regexp.MustCompile(`(?s)-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END ([A-Z0-9 ]+)-----`)

// inLines is PEM as encoding/pem wants it.
func inLines(text string) (lines []byte, err error) {
	text = strings.ReplaceAll(text, `\n`, "\n")
	for n, m := range pemBlock.FindAllStringSubmatch(text, -1) {
		if strings.Contains(m[2], ":") { // headers: of keys that are encrypted in the old way
			return nil, errEncryptedKey
		}
		body, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(m[2]), ""))
		if err != nil || m[1] != m[3] {
			return nil, fmt.Errorf("block %d is no PEM", n+1)
		}
		lines = append(lines, pem.EncodeToMemory(&pem.Block{Type: m[1], Bytes: body})...)
	}
	return lines, nil
}

var errEncryptedKey = errors.New("the key is encrypted, which is not supported; decrypt it (openssl pkey), or give a certificate to WithTLS")

// verifyChainOnly checks who has signed a broker's certificate, and not for which host.
func verifyChainOnly(c *tls.Config) {
	roots := c.RootCAs
	c.InsecureSkipVerify = true // what it would check is checked below, but for the name
	c.VerifyConnection = func(state tls.ConnectionState) error {
		options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
		for _, between := range state.PeerCertificates[1:] {
			options.Intermediates.AddCert(between)
		}
		if _, err := state.PeerCertificates[0].Verify(options); err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
		}
		return nil
	}
}
