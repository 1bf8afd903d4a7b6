package kafkacluster

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// Config says what cluster to start. The zero value is one broker of V4.
type Config struct {
	// Version of Kafka; empty means V4.
	Version Version
	// Brokers is 1 or 3; 0 means 1. Their ids count from 1, and each is a
	// controller too. Three brokers fail over within about three seconds.
	Brokers int
	// Properties are added to each broker's server.properties, over what this
	// package sets itself.
	Properties map[string]string
	// Dir is the folder below which data and logs are kept, for example one in
	// memory; empty means the test's temporary folder.
	Dir string
	// Listeners opens further listeners for clients beside PLAINTEXT, each named
	// by its security protocol: SSL, SASL_PLAINTEXT, SASL_SSL. What they need
	// (keystores, JAAS lines) goes into Properties; see Cluster.SeedsOf. Security
	// does all of that.
	Listeners []string
	// Security, if set, opens listeners with TLS and SASL, and takes the place of
	// Listeners.
	Security *Security
	// FormatArgs are given to "StorageTool format", for example
	// "--feature", "transaction.version=0" or "--add-scram", "SCRAM-SHA-512=[…]".
	FormatArgs []string
	// Advertise, if set, is called once for each broker and PLAINTEXT address
	// before it starts, and returns the address that clients are told instead:
	// a proxy's. Replication and the cluster's own clients keep clear of it.
	Advertise func(id int, address string) string
	// Benchmark lets the JVM compile fully and gives it 1 GB of heap. Otherwise it
	// is set up to start quickly and to stay small.
	Benchmark bool

	record string // file to write a class data archive to
}

func (c Config) withDefaults() (Config, error) {
	if c.Version == "" {
		c.Version = V4
	}
	if c.Brokers == 0 {
		c.Brokers = 1
	}
	if c.Brokers != 1 && c.Brokers != 3 {
		return c, fmt.Errorf("kafkacluster: Config.Brokers is %d: 1 or 3 are known", c.Brokers)
	}
	if c.Security != nil && len(c.Listeners) > 0 {
		return c, fmt.Errorf("kafkacluster: Config.Listeners is %q: Security has its own", c.Listeners)
	}
	var err error
	c.Security, err = c.Security.withDefaults()
	return c, err
}

// furtherListeners are those of clients beside PLAINTEXT.
func (c Config) furtherListeners() []string {
	return slices.Concat(c.Listeners, c.Security.listeners())
}

// key tells shared clusters apart. Advertise is a function, and such a cluster
// is not shared.
func (c Config) key() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%q %d %q %q %q %v", c.Version, c.Brokers, c.Dir, c.Listeners, c.FormatArgs, c.Benchmark)
	for _, name := range slices.Sorted(maps.Keys(c.Properties)) {
		fmt.Fprintf(&text, " %q=%q", name, c.Properties[name])
	}
	if c.Security != nil {
		fmt.Fprintf(&text, " %+v", *c.Security)
	}
	return text.String()
}

// jvm are the options of a broker's JVM.
func (c Config) jvm() []string {
	switch {
	case c.Benchmark:
		return []string{"-Xms1g", "-Xmx1g"}
	case c.record != "":
		return []string{"-Xms384m", "-Xmx384m", "-XX:TieredStopAtLevel=1", "-XX:ArchiveClassesAtExit=" + c.record}
	default:
		return []string{"-Xms384m", "-Xmx384m", "-XX:TieredStopAtLevel=1"}
	}
}

// The names of a broker's listeners. Clients under test use the first, brokers
// among themselves and this package's own clients the second.
const (
	clientListener     = "PLAINTEXT"
	internalListener   = "INTERNAL"
	controllerListener = "CONTROLLER"
)

// serverProperties writes the server.properties of one node.
func serverProperties(cfg Config, n *node, nodes []*node, certificates *certificates) string {
	var voters []string
	for _, each := range nodes {
		voters = append(voters, fmt.Sprintf("%d@%s", each.id, each.address[controllerListener]))
	}
	listeners := []string{controllerListener + "://" + n.address[controllerListener]}
	var advertised []string
	protocols := []string{controllerListener + ":PLAINTEXT", internalListener + ":PLAINTEXT"}
	for _, name := range slices.Concat([]string{internalListener, clientListener}, cfg.furtherListeners()) {
		listeners = append(listeners, name+"://"+n.address[name])
		told := n.address[name]
		if name == clientListener {
			told = n.advertised
		}
		advertised = append(advertised, name+"://"+told)
		if name != internalListener {
			protocols = append(protocols, name+":"+name)
		}
	}
	replicas := strconv.Itoa(len(nodes))
	inSync := strconv.Itoa(len(nodes)/2 + 1) // 1 of 1, 2 of 3

	p := map[string]string{
		"process.roles":                            "broker,controller",
		"node.id":                                  strconv.Itoa(n.id),
		"controller.quorum.voters":                 strings.Join(voters, ","),
		"controller.listener.names":                controllerListener,
		"listeners":                                strings.Join(listeners, ","),
		"advertised.listeners":                     strings.Join(advertised, ","),
		"listener.security.protocol.map":           strings.Join(protocols, ","),
		"inter.broker.listener.name":               internalListener,
		"log.dirs":                                 strings.ReplaceAll(n.data(), `\`, `/`),
		"num.network.threads":                      "2",
		"num.io.threads":                           "2",
		"num.partitions":                           "1",
		"offsets.topic.num.partitions":             "1",
		"offsets.topic.replication.factor":         replicas,
		"transaction.state.log.num.partitions":     "2",
		"transaction.state.log.replication.factor": replicas,
		"transaction.state.log.min.isr":            inSync,
		"group.initial.rebalance.delay.ms":         "0",
		"log.cleaner.dedupe.buffer.size":           "16777216",
		// A killed broker comes back only after its old session ran out.
		"broker.heartbeat.interval.ms": "200",
		"broker.session.timeout.ms":    "2000",
	}
	if cfg.Version.four() {
		p["share.coordinator.state.topic.replication.factor"] = replicas
		p["share.coordinator.state.topic.min.isr"] = inSync
	}
	if len(nodes) > 1 { // quick failover
		p["broker.heartbeat.interval.ms"] = "500"
		p["broker.session.timeout.ms"] = "3000"
		p["controller.quorum.election.timeout.ms"] = "500"
		p["controller.quorum.fetch.timeout.ms"] = "1000"
		p["replica.lag.time.max.ms"] = "5000"
	}
	maps.Copy(p, cfg.Security.properties(certificates))
	maps.Copy(p, cfg.Properties)

	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(p)) {
		fmt.Fprintf(&text, "%s=%s\n", name, escapeProperty(p[name]))
	}
	return text.String()
}

// escapeProperty keeps a value of several lines (a PEM, say) in one, and all of it
// in ASCII: Java reads property files as Latin 1.
func escapeProperty(value string) string {
	value = strings.NewReplacer(`\`, `\\`, "\r", `\r`, "\n", `\n`).Replace(value)
	var text strings.Builder
	for _, unit := range utf16.Encode([]rune(value)) {
		if unit > '~' {
			fmt.Fprintf(&text, `\u%04x`, unit)
		} else {
			text.WriteByte(byte(unit))
		}
	}
	return text.String()
}

// Loggers: 4.x logs by log4j 2, 3.9 by reload4j. Both to the broker's log file,
// which is its standard output, and tools to standard error.
const (
	log4j2Properties = `status=error
appender.out.type=Console
appender.out.name=out
appender.out.target=%[1]s
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=[%%d] %%p %%m (%%c)%%n
rootLogger.level=%[2]s
rootLogger.appenderRef.out.ref=out
`
	log4jProperties = `log4j.rootLogger=%[2]s, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.target=%[1]s
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=[%%d] %%p %%m (%%c)%%n
`
)

// logger returns the text of a logger's configuration, and the JVM option that
// selects it from file.
func logger(version Version, file, target, level string) (text, option string) {
	if version.four() {
		target = map[string]string{"System.out": "SYSTEM_OUT", "System.err": "SYSTEM_ERR"}[target]
		return fmt.Sprintf(log4j2Properties, target, level), "-Dlog4j2.configurationFile=" + file
	}
	return fmt.Sprintf(log4jProperties, target, level), "-Dlog4j.configuration=file:" + file
}
