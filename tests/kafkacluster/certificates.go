package kafkacluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// certificateTime is how long certificates are good for, and how long before
// now they begin.
const (
	certificateTime   = 48 * time.Hour
	certificateBefore = time.Hour
)

// certificates are a cluster's own authority and what it has signed, as PEM files
// (KIP-651). The authority's key is not kept.
type certificates struct {
	dir    string
	roots  *x509.CertPool
	client tls.Certificate
}

func (c *certificates) truststore() string     { return filepath.Join(c.dir, "truststore.pem") }
func (c *certificates) serverKeystore() string { return filepath.Join(c.dir, "server.pem") }
func (c *certificates) clientKeystore() string { return filepath.Join(c.dir, "client.pem") }

// newCertificates makes the folder and everything in it.
func newCertificates(dir string) (*certificates, error) {
	ca, err := newAuthority()
	if err != nil {
		return nil, err
	}
	server, err := ca.sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "troupe test broker"},
		DNSNames:    []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return nil, err
	}
	client, err := ca.sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "troupe test client"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, err
	}
	c := &certificates{dir: dir, roots: x509.NewCertPool()}
	c.roots.AddCert(ca.certificate)
	if c.client, err = tls.X509KeyPair(client, client); err != nil { // it finds each in its block
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	return c, errors.Join(
		os.WriteFile(c.truststore(), certificateBlock(ca.certificate.Raw), 0o600),
		os.WriteFile(c.serverKeystore(), server, 0o600),
		os.WriteFile(c.clientKeystore(), client, 0o600),
	)
}

// authority signs the certificates of one cluster.
type authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := dated(&x509.Certificate{
		Subject:               pkix.Name{CommonName: "troupe test authority"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	})
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(raw)
	return &authority{key: key, certificate: certificate}, err
}

// sign returns a new key and its certificate as the blocks of one PEM file, which
// is what Kafka calls a keystore of type PEM.
func (a *authority) sign(template *x509.Certificate) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	raw, err := x509.CreateCertificate(rand.Reader, dated(template), a.certificate, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key) // Kafka reads no other form
	if err != nil {
		return nil, err
	}
	keyBlock := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	return slices.Concat(keyBlock, certificateBlock(raw)), nil
}

// dated adds the times and a serial number that no other certificate has.
func dated(template *x509.Certificate) *x509.Certificate {
	serial := make([]byte, 16)
	_, _ = rand.Read(serial) // never fails
	template.SerialNumber = new(big.Int).SetBytes(serial)
	now := time.Now()
	template.NotBefore, template.NotAfter = now.Add(-certificateBefore), now.Add(certificateTime)
	return template
}

func certificateBlock(raw []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
}

// TLS returns what a client needs for the listeners SSL and SASL_SSL: it believes
// the cluster's authority only, and shows no certificate. The caller may change it.
func (c *Cluster) TLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.secured().roots}
}

// MutualTLS is TLS with a client certificate, for Security.SSLClientAuth.
func (c *Cluster) MutualTLS() *tls.Config {
	config := c.TLS()
	config.Certificates = []tls.Certificate{c.secured().client}
	return config
}

// TruststoreFile names the PEM file with the authority's certificate: a client's
// ssl.truststore.location with ssl.truststore.type=PEM.
func (c *Cluster) TruststoreFile() string { return c.secured().truststore() }

// KeystoreFile names the PEM file with the key and the certificate of MutualTLS: a
// client's ssl.keystore.location with ssl.keystore.type=PEM.
func (c *Cluster) KeystoreFile() string { return c.secured().clientKeystore() }

// secured fails where there is no Security.
func (c *Cluster) secured() *certificates {
	if c.tb != nil {
		c.tb.Helper()
	}
	if c.certificates == nil {
		c.check(errors.New("the cluster was started without Config.Security"))
	}
	return c.certificates
}
