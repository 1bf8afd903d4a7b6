package kafkacluster

import "strings"

// Version is a release of Apache Kafka whose artefacts are complete.
type Version string

const (
	// V4 is the newest complete 4.x, and what an empty Config.Version means.
	V4 Version = "4.3.1"
	// V3 is the newest 3.9, the last line before 4.0.
	V3 Version = "3.9.2"
)

// Versions lists every version that this package can start, newest first.
func Versions() []Version { return []Version{V4, V3} }

// four says whether v is 4.0 or later: a logger of another kind, share groups.
func (v Version) four() bool { return !strings.HasPrefix(string(v), "3.") }

// dumpClass is where this version keeps DumpLogSegments.
func (v Version) dumpClass() string {
	if v.four() {
		return "org.apache.kafka.tools.DumpLogSegments"
	}
	return "kafka.tools.DumpLogSegments"
}
