package troupe

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/troupe-kafka/troupe/codecs"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/partitioners"
)

// property parses one Kafka property into options.
type property func(value string) ([]Option, error)

var propertyTable = map[string]property{
	"bootstrap.servers":                     func(v string) ([]Option, error) { return one(WithBrokers(splitList(v)...)) },
	"client.id":                             func(v string) ([]Option, error) { return one(WithClientID(v)) },
	"acks":                                  parseAcks,
	"enable.idempotence":                    boolean(WithIdempotence),
	"compression.type":                      parseCodec,
	"compression.gzip.level":                level(codecs.Gzip),
	"compression.lz4.level":                 level(codecs.LZ4),
	"compression.zstd.level":                level(codecs.Zstd),
	"linger.ms":                             millis(WithLinger),
	"batch.size":                            integer(WithBatchMaxBytes),
	"max.request.size":                      integer(WithRecordMaxBytes),
	"request.max.bytes":                     integer(WithRequestMaxBytes),
	"receive.message.max.bytes":             integer(WithResponseMaxBytes),
	"buffer.memory":                         integer(WithBufferBytes),
	"buffer.pace.bytes":                     integer(WithPaceBytes),
	"max.in.flight.requests.per.connection": integer(WithMaxInFlight),
	"unnumbered.in.flight":                  integer(WithUnnumberedInFlight),
	"delivery.timeout.ms":                   millis(WithDeliveryTimeout),
	"request.timeout.ms":                    millis(WithRequestTimeout),
	"max.block.ms":                          millis(WithMaxBlock),
	"socket.connection.setup.timeout.ms":    millis(WithConnectionTimeout),
	"connections.max.idle.ms":               millis(WithConnectionIdle),
	"slow.request.ms":                       millis(WithSlowRequest),
	"metadata.max.age.ms":                   millis(WithMetadataMaxAge),
	"metadata.min.age.ms":                   millis(WithMetadataMinAge),
	"metadata.hedge.ms":                     millis(WithMetadataHedge),
	"metadata.max.idle.ms":                  millis(WithMetadataIdle),
	"topic.wait.ms":                         millis(WithMaxTopicWait),
	"allow.auto.create.topics":              boolean(WithAllowAutoTopicCreation),
	"resend.innocent.records":               boolean(WithResendInnocent),
	"partitioner.sticky.bytes":              integer(WithStickyBytes),
	"partitioner.class":                     parsePartitioner,
	"partitioner.ignore.keys": func(v string) ([]Option, error) {
		on, err := strconv.ParseBool(v)
		if err != nil || !on {
			return nil, err
		}
		return one(WithPartitioner(partitioners.Sticky))
	},
	"security.protocol":                     parseSecurityProtocol,
	"sasl.mechanism":                        security("sasl.mechanism", func(p *securityProperties) *string { return &p.mechanism }),
	"sasl.jaas.config":                      security("sasl.jaas.config", func(p *securityProperties) *string { return &p.jaas }),
	"sasl.username":                         security("sasl.username", func(p *securityProperties) *string { return &p.user }),
	"sasl.password":                         security("sasl.password", func(p *securityProperties) *string { return &p.password }),
	"ssl.truststore.type":                   security("ssl.truststore.type", func(p *securityProperties) *string { return &p.trust.kind }),
	"ssl.truststore.location":               security("ssl.truststore.location", func(p *securityProperties) *string { return &p.trust.file }),
	"ssl.truststore.certificates":           security("ssl.truststore.certificates", func(p *securityProperties) *string { return &p.trust.text }),
	"ssl.keystore.type":                     security("ssl.keystore.type", func(p *securityProperties) *string { return &p.key.kind }),
	"ssl.keystore.location":                 security("ssl.keystore.location", func(p *securityProperties) *string { return &p.key.file }),
	"ssl.keystore.certificate.chain":        security("ssl.keystore.certificate.chain", func(p *securityProperties) *string { return &p.key.text }),
	"ssl.keystore.key":                      security("ssl.keystore.key", func(p *securityProperties) *string { return &p.key.keyText }),
	"ssl.key.password":                      security("ssl.key.password", func(p *securityProperties) *string { return &p.keyPassword }),
	"ssl.endpoint.identification.algorithm": security("ssl.endpoint.identification.algorithm", func(p *securityProperties) *string { return &p.identification }),
	"ssl.enabled.protocols":                 security("ssl.enabled.protocols", func(p *securityProperties) *string { return &p.protocols }),
	"retries": func(v string) ([]Option, error) {
		n, err := strconv.Atoi(v)
		if err != nil {
			return nil, err
		}
		if n == 1<<31-1 {
			n = messages.UnlimitedRetries // Java's way to say so
		} else if n < 0 {
			return nil, fmt.Errorf("%d is negative", n)
		}
		return one(func(c *config) error { c.Retry.Retries, c.named["retries"] = n, true; return nil })
	},
	"retry.backoff.ms": millis(func(d time.Duration) Option {
		return func(c *config) error { c.Retry.InitialRetryTime = d; return nil }
	}),
	"retry.backoff.max.ms": millis(func(d time.Duration) Option {
		return func(c *config) error { c.Retry.MaxRetryTime = d; return nil }
	}),
}

// Properties turns Kafka's property names into options. An unknown name is an
// error that names the nearest ones.
func Properties(properties map[string]string) ([]Option, error) {
	names := make([]string, 0, len(properties))
	for name := range properties {
		names = append(names, name)
	}
	slices.Sort(names)
	var options []Option
	for _, name := range names {
		parse, ok := propertyTable[name]
		if !ok {
			return nil, refuse(name, "unknown property%s", suggestion(name))
		}
		parsed, err := parse(strings.TrimSpace(properties[name]))
		if err != nil {
			if secrets[name] {
				return nil, refuse(name, "%v", err)
			}
			return nil, refuse(name, "%q: %v", properties[name], err)
		}
		options = append(options, parsed...)
	}
	options = append(options, func(c *config) error {
		if err := c.Retry.Validate(); err != nil {
			return refuse("retry", "%v", err)
		}
		return nil
	})
	return options, nil
}

// ReadProperties reads options from a .properties file, as ParseProperties does.
func ReadProperties(r io.Reader) ([]Option, error) {
	properties, err := ParseProperties(r)
	if err != nil {
		return nil, err
	}
	return Properties(properties)
}

// ParseProperties reads a .properties file, for those who want to change a property
// before they hand them to Properties: a name and a value per line, separated by = or :,
// with # and ! for comments and \ at the end of a line to continue it.
func ParseProperties(r io.Reader) (map[string]string, error) {
	properties := make(map[string]string)
	scanner := bufio.NewScanner(r)
	line, joined := 0, ""
	add := func(text string) error {
		name, value, err := splitProperty(text)
		if err != nil {
			return refuse("properties", "line %d: %v", line, err) // and not what it is: it may be a secret
		}
		if _, twice := properties[name]; twice {
			return refuse(name, "given twice, the second time in line %d", line)
		}
		properties[name] = value
		return nil
	}
	for scanner.Scan() {
		line++
		text := strings.TrimSpace(scanner.Text())
		if joined == "" && (text == "" || text[0] == '#' || text[0] == '!') {
			continue
		}
		if rest, more := strings.CutSuffix(text, `\`); more {
			joined += rest
			continue
		}
		text, joined = joined+text, ""
		if err := add(text); err != nil {
			return nil, err
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, err
	}
	if joined != "" { // the file ends in a \
		if err := add(joined); err != nil {
			return nil, err
		}
	}
	return properties, nil
}

// splitProperty takes a line of a .properties file apart, as java.util.Properties does:
// \ makes the next character one of the text, and \t, \n, \r, \f and \uXXXX are others.
func splitProperty(text string) (name, value string, err error) {
	var b strings.Builder
	runes := []rune(text)
	split := false
	for i := 0; i < len(runes); i++ {
		switch r := runes[i]; {
		case (r == '=' || r == ':') && !split:
			name, split = strings.TrimSpace(b.String()), true
			b.Reset()
		case r != '\\' || i+1 == len(runes):
			b.WriteRune(r)
		case runes[i+1] == 'u':
			if i+6 > len(runes) {
				return "", "", errors.New(`\u is not followed by four digits`)
			}
			code, err := strconv.ParseUint(string(runes[i+2:i+6]), 16, 16)
			if err != nil {
				return "", "", errors.New(`\u is not followed by four digits`)
			}
			b.WriteRune(rune(code))
			i += 5
		default:
			i++
			if at := strings.IndexRune("tnrf", runes[i]); at >= 0 {
				b.WriteByte("\t\n\r\f"[at])
			} else {
				b.WriteRune(runes[i])
			}
		}
	}
	if !split || name == "" {
		return "", "", errors.New("it has no name and value")
	}
	return name, strings.TrimSpace(b.String()), nil
}

func one(o Option) ([]Option, error) { return []Option{o}, nil }

func splitList(v string) []string {
	var list []string
	for _, s := range strings.Split(v, ",") {
		if s = strings.TrimSpace(s); s != "" {
			list = append(list, s)
		}
	}
	return list
}

func integer(option func(int) Option) property {
	return func(v string) ([]Option, error) {
		n, err := strconv.Atoi(v)
		if err != nil {
			return nil, fmt.Errorf("not a whole number")
		}
		return one(option(n))
	}
}

func millis(option func(time.Duration) Option) property {
	return func(v string) ([]Option, error) {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n > int64(1<<62)/int64(time.Millisecond) {
			return nil, fmt.Errorf("not a number of milliseconds")
		}
		return one(option(time.Duration(n) * time.Millisecond))
	}
}

func boolean(option func(bool) Option) property {
	return func(v string) ([]Option, error) {
		switch strings.ToLower(v) {
		case "true":
			return one(option(true))
		case "false":
			return one(option(false))
		}
		return nil, fmt.Errorf("neither true nor false")
	}
}

func level(id codecs.ID) property {
	return integer(func(n int) Option { return WithCompressionLevel(id, n) })
}

func parseAcks(v string) ([]Option, error) {
	switch v {
	case "all", "-1":
		return one(WithAcks(AcksAll))
	case "1":
		return one(WithAcks(AcksLeader))
	case "0":
		return one(WithAcks(AcksNone))
	}
	return nil, fmt.Errorf("not one of all, -1, 0, 1")
}

func parseCodec(v string) ([]Option, error) {
	id, err := codecs.Parse(v)
	if err != nil {
		return nil, err
	}
	return one(WithCompression(id))
}

var partitionerNames = map[string]partitioners.Factory{
	"default": partitioners.Default, "java_compatible": partitioners.JavaCompatible, "legacy": partitioners.Legacy,
	"round_robin": partitioners.RoundRobin, "sticky": partitioners.Sticky, "consistent_crc32": partitioners.ConsistentCRC32,
	"fnv1a": partitioners.FNV1a, "manual": partitioners.Manual,
	"org.apache.kafka.clients.producer.RoundRobinPartitioner": partitioners.RoundRobin,
}

func parsePartitioner(v string) ([]Option, error) {
	f, ok := partitionerNames[v]
	if !ok {
		names := make([]string, 0, len(partitionerNames))
		for name := range partitionerNames {
			names = append(names, name)
		}
		slices.Sort(names)
		return nil, fmt.Errorf("not one of %s", strings.Join(names, ", "))
	}
	return one(WithPartitioner(f))
}

// suggestion names known properties that share a part with an unknown one.
func suggestion(name string) string {
	var near []string
	for known := range propertyTable {
		for _, part := range strings.Split(name, ".") {
			if len(part) > 3 && strings.Contains(known, part) {
				near = append(near, known)
				break
			}
		}
	}
	if len(near) == 0 {
		return ""
	}
	slices.Sort(near)
	return "; known ones like it: " + strings.Join(near[:min(len(near), 4)], ", ")
}
