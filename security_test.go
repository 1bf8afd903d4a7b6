package troupe

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/troupe-kafka/troupe/internal/certtest"
	"github.com/troupe-kafka/troupe/sasl"
	"github.com/troupe-kafka/troupe/seams"
)

// settled are the settings that properties, and options behind them, come to.
func settled(properties map[string]string, more ...Option) (*config, error) {
	options, err := Properties(properties)
	if err != nil {
		return nil, err
	}
	c := defaults()
	for _, o := range append(append([]Option{WithBrokers("localhost:9092")}, options...), more...) {
		if err := o(c); err != nil {
			return nil, err
		}
	}
	return c, c.validate()
}

func write(t *testing.T, name string, parts ...[]byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	text := []byte{}
	for _, p := range parts {
		text = append(text, p...)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestSecurityProperties: each of security.protocol's values brings what it names.
func TestSecurityProperties(t *testing.T) {
	jaas := `org.apache.kafka.common.security.%s required username="o\"brien" password='p;a s=s\'w' ;`
	for name, c := range map[string]struct {
		properties map[string]string
		tls        bool
		sasl       string
	}{
		"none":       {nil, false, ""},
		"plaintext":  {map[string]string{"security.protocol": "PLAINTEXT"}, false, ""},
		"tls":        {map[string]string{"security.protocol": "ssl"}, true, ""},
		"sasl":       {map[string]string{"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.password": "p"}, false, "PLAIN"},
		"both":       {map[string]string{"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "u", "sasl.password": "p"}, true, "SCRAM-SHA-512"},
		"jaas":       {map[string]string{"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-256", "sasl.jaas.config": fmt.Sprintf(jaas, "scram.ScramLoginModule")}, true, "SCRAM-SHA-256"},
		"jaas plain": {map[string]string{"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.jaas.config": fmt.Sprintf(jaas, "plain.PlainLoginModule")}, true, "PLAIN"},
	} {
		got, err := settled(c.properties)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if (got.tls != nil) != c.tls || (got.SASL == nil) != (c.sasl == "") || got.SASL != nil && got.SASL.Name() != c.sasl {
			t.Errorf("%s: TLS %v, SASL %v", name, got.tls != nil, got.SASL)
		}
		if got.tls != nil && (got.tls.MinVersion != tls.VersionTLS12 || got.tls.InsecureSkipVerify) {
			t.Errorf("%s: %+v", name, got.tls)
		}
	}
}

// TestJAAS reads names and values as Java does.
func TestJAAS(t *testing.T) {
	user, password, err := parseJAAS(`org.apache.kafka.common.security.plain.PlainLoginModule  required username="o\"brien"
		password='p;a s=s\'w\\' ;`, "PLAIN")
	if err != nil || user != `o"brien` || password != `p;a s=s'w\` {
		t.Errorf("%q %q %v", user, password, err)
	}
	for _, text := range []string{
		"org.apache.kafka.common.security.plain.PlainLoginModule\n\tREQUIRED\n username=ada\npassword = 'w' ;\n",
		`org.apache.kafka.common.security.plain.PlainLoginModule required username="ada" password="w";`,
	} {
		if user, password, err := parseJAAS(text, "PLAIN"); user != "ada" || password != "w" || err != nil {
			t.Errorf("%q: %q %q %v", text, user, password, err)
		}
	}
	for _, text := range []string{
		"org.apache.kafka.common.security.plain.PlainLoginModule required username=u password=hunter2",
		"org.apache.kafka.common.security.plain.PlainLoginModule required username=u password=hun;ter2;",
		`org.apache.kafka.common.security.plain.PlainLoginModule required username=u password "hunter2" serviceName="x";`,
		"org.apache.kafka.common.security.plain.PlainLoginModule required username=u password=first hunter2=second;",
		`org.apache.kafka.common.security.plain.PlainLoginModule required username=\"u\" password=\"hunter2\";`,
		"org.apache.kafka.common.security.plain.PlainLoginModule required username=u password=hunter2; other=x;",
		"org.apache.kafka.common.security.plain.PlainLoginModule required username=u password= ;",
		"", "x", "org.apache.kafka.common.security.plain.PlainLoginModule", "org.apache.kafka.common.security.plain.PlainLoginModule username=u",
		`org.apache.kafka.common.security.plain.PlainLoginModule required username="u`, "org.apache.kafka.common.security.plain.PlainLoginModule required username",
		`org.apache.kafka.common.security.plain.PlainLoginModule required tokenauth="true";`, `PlainLoginModule required username="u" password="p";`,
		`org.apache.kafka.common.security.scram.ScramLoginModule required username="u" password="p";`,
	} {
		user, _, err := parseJAAS(text, "PLAIN")
		if err == nil {
			t.Errorf("%q is a login of %q", text, user)
		} else if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "ter2") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestSecurityRefused: what contradicts itself, or would have no effect, is refused with
// the property's name, and no error repeats a secret.
func TestSecurityRefused(t *testing.T) {
	a := certtest.New(t)
	chain, key := certtest.PEM(t, a.Certificate("client"))
	encrypted := []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
	sasled := func(more ...string) map[string]string {
		m := map[string]string{"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.password": "hunter2"}
		for i := 0; i < len(more); i += 2 {
			if m[more[i]] = more[i+1]; more[i+1] == "-" {
				delete(m, more[i])
			}
		}
		return m
	}
	encryptedOnly := func(more ...string) map[string]string {
		return sasled(append([]string{"security.protocol", "SSL", "sasl.mechanism", "-", "sasl.username", "-", "sasl.password", "-"}, more...)...)
	}
	for name, c := range map[string]struct {
		properties map[string]string
		option     string
		more       []Option
	}{
		"protocol":                 {map[string]string{"security.protocol": "TLS"}, "security.protocol", nil},
		"a password for nobody":    {sasled("security.protocol", "-"), "sasl.", nil},
		"a password without SASL":  {sasled("security.protocol", "SSL"), "sasl.", nil},
		"a store without TLS":      {sasled("security.protocol", "SASL_PLAINTEXT", "ssl.truststore.location", "x"), "ssl.truststore.location", nil},
		"no mechanism":             {sasled("sasl.mechanism", "-"), "sasl.mechanism", nil},
		"kerberos":                 {sasled("sasl.mechanism", "GSSAPI"), "sasl.mechanism", nil},
		"no user":                  {sasled("sasl.username", "-"), "sasl.username", nil},
		"two logins":               {sasled("sasl.jaas.config", `org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="hunter2";`), "sasl.jaas.config", nil},
		"another module":           {sasled("sasl.username", "-", "sasl.password", "-", "sasl.jaas.config", `com.example.Login required password="hunter2";`), "sasl.jaas.config", nil},
		"a store of Java's":        {encryptedOnly("ssl.truststore.type", "JKS", "ssl.truststore.location", "x"), "ssl.truststore.type", nil},
		"no such file":             {encryptedOnly("ssl.truststore.location", "/does/not/exist"), "ssl.truststore.location", nil},
		"no certificate":           {encryptedOnly("ssl.truststore.certificates", "nothing"), "ssl.truststore.certificates", nil},
		"two trust stores":         {encryptedOnly("ssl.truststore.certificates", string(a.PEM()), "ssl.truststore.location", "x"), "ssl.truststore.location", nil},
		"a key without a chain":    {encryptedOnly("ssl.keystore.key", string(key)), "ssl.keystore.key", nil},
		"a chain without a key":    {encryptedOnly("ssl.keystore.certificate.chain", string(chain)), "ssl.keystore.certificate.chain", nil},
		"an encrypted key":         {encryptedOnly("ssl.keystore.certificate.chain", string(chain), "ssl.keystore.key", string(encrypted)), "ssl.keystore.key", nil},
		"a key's password":         {encryptedOnly("ssl.key.password", "hunter2"), "ssl.key.password", nil},
		"an old encrypted key":     {encryptedOnly("ssl.keystore.certificate.chain", string(chain), "ssl.keystore.key", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----"), "ssl.keystore.key", nil},
		"one certificate of two":   {encryptedOnly("ssl.truststore.certificates", string(a.PEM())+"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "ssl.truststore.certificates", nil},
		"half a certificate":       {encryptedOnly("ssl.truststore.certificates", string(a.PEM())+"-----BEGIN CERTIFICATE-----\nA!A\n-----END CERTIFICATE-----\n"), "ssl.truststore.certificates", nil},
		"another block":            {encryptedOnly("ssl.truststore.location", write(t, "ca.pem", a.PEM(), key)), "ssl.truststore.location", nil},
		"no password":              {sasled("sasl.password", "-"), "sasl.password", nil},
		"a login without one":      {sasled("sasl.username", "-", "sasl.password", "-", "sasl.jaas.config", `org.apache.kafka.common.security.plain.PlainLoginModule required username="u";`), "sasl.password", nil},
		"a login and no mechanism": {sasled("sasl.mechanism", "-", "sasl.username", "-", "sasl.password", "-", "sasl.jaas.config", `org.apache.kafka.common.security.scram.ScramLoginModule required username="u" password="hunter2";`), "sasl.mechanism", nil},
		"a file and a key":         {encryptedOnly("ssl.keystore.location", write(t, "pem", chain, key), "ssl.keystore.key", string(key)), "ssl.keystore.key", nil},
		"identification":           {encryptedOnly("ssl.endpoint.identification.algorithm", "ldaps"), "ssl.endpoint.identification.algorithm", nil},
		"versions":                 {encryptedOnly("ssl.enabled.protocols", "TLSv1.1"), "ssl.enabled.protocols", nil},
		"TLS twice":                {encryptedOnly("ssl.truststore.certificates", string(a.PEM())), "ssl.truststore.certificates", []Option{WithTLS(nil)}},
		"SASL twice":               {sasled(), "sasl.", []Option{WithSASL(sasl.Plain("u", "p"))}},
		"TLS and plaintext":        {map[string]string{"security.protocol": "PLAINTEXT"}, "security.protocol", []Option{WithTLS(nil)}},
		"SASL and plaintext":       {map[string]string{"security.protocol": "SSL"}, "security.protocol", []Option{WithSASL(sasl.Plain("u", "p"))}},
		"no mechanism in the code": {nil, "WithSASL", []Option{WithSASL(nil)}},
		"another transport":        {nil, "WithTLS", []Option{WithTLS(nil), WithSeams(Seams{Transport: seams.NewNetTransport(seams.NetConfig{})})}},
	} {
		_, err := settled(c.properties, c.more...)
		var refused *ConfigError
		if !errors.As(err, &refused) || !strings.HasPrefix(refused.Option, c.option) {
			t.Errorf("%s: %v, expected a word about %s", name, err, c.option)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "PRIVATE KEY") {
			t.Errorf("%s: the error repeats a secret: %v", name, err)
		}
	}
}

// TestStores: PEM in a file or in the property, where its lines may have become one.
func TestStores(t *testing.T) {
	a := certtest.New(t)
	chain, key := certtest.PEM(t, a.Certificate("client"))
	inOneLine := func(b []byte) string { return strings.ReplaceAll(string(b), "\n", " ") }
	client := write(t, "client.pem", key, chain)
	for name, properties := range map[string]map[string]string{
		"files":   {"ssl.truststore.type": "PEM", "ssl.truststore.location": write(t, "ca.pem", a.PEM()), "ssl.keystore.type": "PEM", "ssl.keystore.location": client},
		"text":    {"ssl.truststore.certificates": string(a.PEM()), "ssl.keystore.certificate.chain": string(chain), "ssl.keystore.key": string(key)},
		"a line":  {"ssl.truststore.certificates": inOneLine(a.PEM()), "ssl.keystore.certificate.chain": inOneLine(chain), "ssl.keystore.key": inOneLine(key)},
		"escaped": {"ssl.truststore.certificates": strings.ReplaceAll(string(a.PEM()), "\n", `\n`), "ssl.keystore.certificate.chain": string(chain), "ssl.keystore.key": string(key)},
	} {
		properties["security.protocol"] = "SSL"
		c, err := settled(properties)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !c.tls.RootCAs.Equal(a.Pool()) {
			t.Errorf("%s: other authorities", name)
		}
		shown := c.tls.Certificates
		if c.tls.GetClientCertificate != nil {
			one, err := c.tls.GetClientCertificate(nil)
			if err != nil {
				t.Error(err)
				continue
			}
			shown = []tls.Certificate{*one}
		}
		if len(shown) != 1 || shown[0].Leaf == nil || shown[0].Leaf.Subject.CommonName != "client" {
			t.Errorf("%s: shows %+v", name, shown)
		}
	}
	// The file is read again for each connection.
	c, err := settled(map[string]string{"security.protocol": "SSL", "ssl.keystore.location": client})
	if err != nil {
		t.Fatal(err)
	}
	chain, key = certtest.PEM(t, a.Certificate("next"))
	if err := os.WriteFile(client, append(key, chain...), 0o600); err != nil {
		t.Fatal(err)
	}
	if shown, err := c.tls.GetClientCertificate(nil); err != nil || shown.Leaf.Subject.CommonName != "next" {
		t.Errorf("after a change of the file: %v", err)
	}
	if err := os.WriteFile(client, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.tls.GetClientCertificate(nil); err == nil || !strings.Contains(err.Error(), "ssl.keystore.location") {
		t.Errorf("an empty file: %v", err)
	}
	if err := os.Remove(client); err != nil {
		t.Fatal(err)
	}
	if _, err := c.tls.GetClientCertificate(nil); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "ssl.keystore.location") {
		t.Errorf("no file: %v", err)
	}
}

// TestWithoutIdentification: the chain is checked, and the host is not.
func TestWithoutIdentification(t *testing.T) {
	a, other := certtest.New(t), certtest.New(t)
	c, err := settled(map[string]string{
		"security.protocol": "SSL", "ssl.truststore.certificates": string(a.PEM()), "ssl.endpoint.identification.algorithm": "", "ssl.enabled.protocols": "TLSv1.3",
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.tls.MinVersion != tls.VersionTLS13 || c.tls.MaxVersion != tls.VersionTLS13 {
		t.Errorf("versions %x to %x", c.tls.MinVersion, c.tls.MaxVersion)
	}
	for who, by := range map[string]*certtest.Authority{"a host of another name": a, "another authority": other} {
		cert, err := x509.ParseCertificate(by.Certificate("elsewhere").Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		err = c.tls.VerifyConnection(tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, ServerName: "here"})
		if by == a && err != nil || by == other && !seams.IsSecurityError(err) {
			t.Errorf("%s: %v", who, err)
		}
	}
}

// TestPropertiesFileEscapes as java.util.Properties reads them.
func TestPropertiesFileEscapes(t *testing.T) {
	for line, want := range map[string][2]string{
		`client.id = a`:               {"client.id", "a"},
		`client.id:a=b:c`:             {"client.id", "a=b:c"},
		`client\.id=C\:\\kafka\\x`:    {"client.id", `C:\kafka\x`},
		`name=\"quoted\" \u00e9\tend`: {"name", "\"quoted\" é\tend"},
		`a\=b=c`:                      {"a=b", "c"},
	} {
		name, value, err := splitProperty(line)
		if err != nil || name != want[0] || value != want[1] {
			t.Errorf("%s: %q %q %v", line, name, value, err)
		}
	}
	for _, line := range []string{"", "name", "=value", `name\=value`, `name=\u12`, `name=\uzzzz`} {
		if name, value, err := splitProperty(line); err == nil {
			t.Errorf("%q: %q %q", line, name, value)
		}
	}
}
