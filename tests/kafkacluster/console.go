package kafkacluster

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// consoleClass is where Kafka keeps its ConsoleConsumer, from 3.8 on.
const consoleClass = "org.apache.kafka.tools.consumer.ConsoleConsumer"

// ConsoleConsume reads the first count values of a partition with Kafka's own
// ConsoleConsumer, which is Java's client and therefore its decoders. Values must
// hold no line end. Fewer than count within a silence of the given time fail the
// test.
func (c *Cluster) ConsoleConsume(topic string, partition, count int, silence time.Duration) []string {
	if c.tb != nil {
		c.tb.Helper()
	}
	values, err := c.console(topic, partition, count, silence)
	c.check(err)
	return values
}

func (c *core) console(topic string, partition, count int, silence time.Duration) ([]string, error) {
	leader, err := c.leaderOf(topic, partition)
	if err != nil {
		return nil, err
	}
	n, err := c.node(leader)
	if err != nil {
		return nil, err
	}
	_, toolOption := logger(c.cfg.Version, filepath.Join(n.dir, "tool-logger.properties"), "", "")
	// With a partition it is assigned, not subscribed: that needs no group.
	printed, err := c.spawner.run(c.tools.command(n.dir, []string{"-Xmx256m", "-XX:TieredStopAtLevel=1", toolOption},
		consoleClass, "--bootstrap-server", strings.Join(c.internal(), ","), "--topic", topic,
		"--partition", strconv.Itoa(partition), "--offset", "earliest",
		"--max-messages", strconv.Itoa(count), "--timeout-ms", strconv.FormatInt(silence.Milliseconds(), 10)))
	if err != nil {
		return nil, fmt.Errorf("ConsoleConsumer of %s-%d: %w", topic, partition, err)
	}
	values := strings.Split(strings.TrimSuffix(printed, "\n"), "\n")
	if len(values) != count {
		return nil, fmt.Errorf("ConsoleConsumer of %s-%d printed %d values, expected %d", topic, partition, len(values), count)
	}
	return values, nil
}
