package kafkacluster

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// BatchDump is a record batch on a broker's disk, as Kafka's DumpLogSegments
// reads it.
type BatchDump struct {
	BaseOffset      int64
	LastOffset      int64
	Count           int    // of records, by the batch's header
	BaseSequence    int32  // -1 without idempotence
	LastSequence    int32  // -1 without idempotence
	ProducerID      int64  // -1 without idempotence
	ProducerEpoch   int16  // -1 without idempotence
	LeaderEpoch     int32  // of the leader that appended it
	Codec           string // none, gzip, snappy, lz4 or zstd
	CRC             uint32
	Size            int  // bytes on disk, header included
	Magic           int8 // version of the format: 2
	Valid           bool // the CRC fits, and Kafka could read Count records out of it
	IsTransactional bool
	IsControl       bool // a marker that ends a transaction: not a producer's
}

// DumpLogSegments reads the log of a partition from its leader's disk with
// Kafka's own tool, which decompresses and checks every batch. Batches are in the
// order of the log; what is being appended while the tool reads may be missing.
func (c *Cluster) DumpLogSegments(topic string, partition int) []BatchDump {
	if c.tb != nil {
		c.tb.Helper()
	}
	leader, err := c.leaderOf(topic, partition)
	c.check(err)
	return c.DumpLogSegmentsOf(leader, topic, partition)
}

// DumpLogSegmentsOf is DumpLogSegments for the replica on one broker, leader or
// follower, running or not.
func (c *Cluster) DumpLogSegmentsOf(id int, topic string, partition int) []BatchDump {
	if c.tb != nil {
		c.tb.Helper()
	}
	batches, err := c.dump(id, topic, partition)
	c.check(err)
	return batches
}

func (c *core) dump(id int, topic string, partition int) ([]BatchDump, error) {
	n, err := c.node(id)
	if err != nil {
		return nil, err
	}
	segments, err := filepath.Glob(filepath.Join(n.data(), fmt.Sprintf("%s-%d", topic, partition), "*.log"))
	if err != nil {
		return nil, err
	}
	if len(segments) == 0 {
		return nil, fmt.Errorf("broker %d has no log of %s-%d", id, topic, partition)
	}
	slices.Sort(segments) // they are named by their first offset
	_, toolOption := logger(c.cfg.Version, filepath.Join(n.dir, "tool-logger.properties"), "", "")
	out, err := c.spawner.run(c.tools.command(n.dir, []string{"-Xmx256m", "-XX:TieredStopAtLevel=1", toolOption},
		c.cfg.Version.dumpClass(), "--deep-iteration", "--files", strings.Join(segments, ",")))
	if err != nil {
		return nil, fmt.Errorf("DumpLogSegments of %s-%d on broker %d: %w", topic, partition, id, err)
	}
	return parseDump(out)
}

// field is one "name: value" of the tool's lines.
var field = regexp.MustCompile(`(\w+): (\S+)`)

// parseDump reads what DumpLogSegments prints: a line for each batch, and after
// it a line for each of its records that starts with a bar.
func parseDump(printed string) ([]BatchDump, error) {
	var batches []BatchDump
	var records []int // found in each batch
	for line := range strings.Lines(printed) {
		switch {
		case strings.HasPrefix(line, "baseOffset: "):
			batch, err := parseBatch(line)
			if err != nil {
				return nil, err
			}
			batches, records = append(batches, batch), append(records, 0)
		case strings.HasPrefix(line, "| offset: ") && len(batches) > 0:
			records[len(records)-1]++
		}
	}
	for i := range batches {
		batches[i].Valid = batches[i].Valid && records[i] == batches[i].Count
	}
	return batches, nil
}

func parseBatch(line string) (BatchDump, error) {
	values := map[string]string{}
	for _, found := range field.FindAllStringSubmatch(line, -1) {
		values[found[1]] = found[2]
	}
	var failed error
	number := func(name string, bits int) int64 {
		value, err := strconv.ParseInt(values[name], 10, bits)
		if err != nil && failed == nil {
			failed = fmt.Errorf("%s: %w (known: %v)", name, err, slices.Sorted(maps.Keys(values)))
		}
		return value
	}
	truth := func(name string) bool {
		value, err := strconv.ParseBool(values[name])
		if err != nil && failed == nil {
			failed = fmt.Errorf("%s: %w", name, err)
		}
		return value
	}
	batch := BatchDump{
		BaseOffset:      number("baseOffset", 64),
		LastOffset:      number("lastOffset", 64),
		Count:           int(number("count", 32)),
		BaseSequence:    int32(number("baseSequence", 32)),
		LastSequence:    int32(number("lastSequence", 32)),
		ProducerID:      number("producerId", 64),
		ProducerEpoch:   int16(number("producerEpoch", 16)),
		LeaderEpoch:     int32(number("partitionLeaderEpoch", 32)),
		Codec:           strings.ToLower(values["compresscodec"]),
		CRC:             uint32(number("crc", 64)),
		Size:            int(number("size", 32)),
		Magic:           int8(number("magic", 8)),
		Valid:           truth("isvalid"),
		IsTransactional: truth("isTransactional"),
		IsControl:       truth("isControl"),
	}
	if failed != nil {
		return batch, fmt.Errorf("DumpLogSegments printed %q: %w", line, failed)
	}
	return batch, nil
}
