package protocol

// Answers off the hot path are decoded by kmsg, which trusts the counts that it
// reads: it makes room for as many elements as there are bytes left, and reads a
// section of tagged fields (KIP-482) as often as its count says, past the end of
// the input. Seventy bytes can cost it seconds. So each answer is walked here
// before kmsg sees it.

// The api keys of the answers that [CheckControlResponse] knows.
const (
	apiKeyMetadata         = 3
	apiKeySaslHandshake    = 17
	apiKeyApiVersions      = 18
	apiKeyInitProducerID   = 22
	apiKeySaslAuthenticate = 36
)

// fieldKind is how a field lies in the input.
type fieldKind uint8

const (
	fixedField fieldKind = iota // size bytes
	stringField
	nullableStringField
	arrayField // of structs with fields, or of size bytes each
)

// field is one field of an answer: only what is needed to step over it.
type field struct {
	name   string
	kind   fieldKind
	size   int
	since  int16
	until  int16 // 0: to this day
	fields []field
}

// answer is the shape of one answer, for the versions min to max.
type answer struct {
	min, max, flexible int16
	fields             []field
	tagged             map[uint32][]field // tagged fields that kmsg takes apart
}

func (f *field) in(version int16) bool {
	return version >= f.since && (f.until == 0 || version <= f.until)
}

// minSize is the least that one of the fields' structs takes.
func minSize(fields []field, version int16, flexible bool) int {
	size := 0
	if flexible {
		size = 1 // tagged fields
	}
	for i := range fields {
		f := &fields[i]
		switch {
		case !f.in(version):
		case f.kind == fixedField:
			size += f.size
		case flexible:
			size++
		case f.kind == arrayField:
			size += 4
		default:
			size += 2
		}
	}
	return size
}

// neverFlexible is the flexible version of an answer that has none.
const neverFlexible = 1<<15 - 1

// features are the tagged arrays of ApiVersions.
var features = []field{{name: "features", kind: arrayField, fields: []field{
	{name: "features.name", kind: stringField},
	{name: "features.versions", size: 4},
}}}

var controlAnswers = map[int16]answer{
	apiKeyMetadata: {min: 0, max: 13, flexible: 9, fields: []field{
		{name: "throttle_time_ms", size: 4, since: 3},
		{name: "brokers", kind: arrayField, fields: []field{
			{name: "brokers.node_id", size: 4},
			{name: "brokers.host", kind: stringField},
			{name: "brokers.port", size: 4},
			{name: "brokers.rack", kind: nullableStringField, since: 1},
		}},
		{name: "cluster_id", kind: nullableStringField, since: 2},
		{name: "controller_id", size: 4, since: 1},
		{name: "topics", kind: arrayField, fields: []field{
			{name: "topics.error_code", size: 2},
			{name: "topics.name", kind: stringField, until: 11},
			{name: "topics.name", kind: nullableStringField, since: 12},
			{name: "topics.topic_id", size: 16, since: 10},
			{name: "topics.is_internal", size: 1, since: 1},
			{name: "topics.partitions", kind: arrayField, fields: []field{
				{name: "topics.partitions.error_code", size: 2},
				{name: "topics.partitions.partition_index", size: 4},
				{name: "topics.partitions.leader_id", size: 4},
				{name: "topics.partitions.leader_epoch", size: 4, since: 7},
				{name: "topics.partitions.replica_nodes", kind: arrayField, size: 4},
				{name: "topics.partitions.isr_nodes", kind: arrayField, size: 4},
				{name: "topics.partitions.offline_replicas", kind: arrayField, size: 4, since: 5},
			}},
			{name: "topics.topic_authorized_operations", size: 4, since: 8},
		}},
		{name: "cluster_authorized_operations", size: 4, since: 8, until: 10},
		{name: "error_code", size: 2, since: 13},
	}},
	apiKeyApiVersions: {min: 0, max: 4, flexible: 3, fields: []field{
		{name: "error_code", size: 2},
		{name: "api_keys", kind: arrayField, fields: []field{{name: "api_keys.versions", size: 6}}},
		{name: "throttle_time_ms", size: 4, since: 1},
	}, tagged: map[uint32][]field{0: features, 1: {{name: "finalized_features_epoch", size: 8}}, 2: features, 3: {{name: "zk_migration_ready", size: 1}}}},
	apiKeySaslHandshake: {min: 0, max: 1, flexible: neverFlexible, fields: []field{
		{name: "error_code", size: 2},
		{name: "mechanisms", kind: arrayField, fields: []field{{name: "mechanisms", kind: stringField}}},
	}},
	apiKeySaslAuthenticate: {min: 0, max: 2, flexible: 2, fields: []field{
		{name: "error_code", size: 2},
		{name: "error_message", kind: nullableStringField},
		{name: "auth_bytes", kind: arrayField, size: 1},
		{name: "session_lifetime_ms", size: 8, since: 1},
	}},
	apiKeyInitProducerID: {min: 0, max: 5, flexible: 2, fields: []field{
		{name: "throttle_time_ms", size: 4},
		{name: "error_code", size: 2},
		{name: "producer_id", size: 8},
		{name: "producer_epoch", size: 2},
	}},
}

// CheckControlResponse checks that the body of an answer, given without its
// header, holds what its lengths and counts announce, so that decoding it costs
// no more than its bytes: no count is larger than the bytes left can hold, and
// nothing reaches beyond the end. It knows Metadata (3), SaslHandshake (17),
// ApiVersions (18), InitProducerId (22) and SaslAuthenticate (36), and refuses every
// other api key and version ([ErrVersion]). Bytes left over at the end are nobody's business here. The
// error is a [*DecodeError].
func CheckControlResponse(apiKey, version int16, body []byte) error {
	c := newCursor(body)
	a, known := controlAnswers[apiKey]
	if !known || version < a.min || version > a.max {
		c.fail("api_version", ErrVersion)
		return c.error()
	}
	flexible := version >= a.flexible
	c.skipFields(a.fields, version, flexible)
	if flexible {
		c.skipKnownTags(a.tagged, version)
	}
	return c.error()
}

// skipFields passes over the fields of one struct, without its tagged ones.
func (c *cursor) skipFields(fields []field, version int16, flexible bool) {
	for i := range fields {
		f := &fields[i]
		if !f.in(version) {
			continue
		}
		switch f.kind {
		case fixedField:
			c.take(f.size, f.name)
		case stringField:
			c.str(flexible, f.name)
		case nullableStringField:
			c.nullableString(flexible, f.name)
		case arrayField:
			c.skipArray(f, version, flexible)
		}
	}
}

func (c *cursor) skipArray(f *field, version int16, flexible bool) {
	if f.fields == nil {
		c.take(f.size*c.count(flexible, f.size, f.name), f.name)
		return
	}
	for n := c.count(flexible, minSize(f.fields, version, flexible), f.name); n > 0 && !c.failed(); n-- {
		c.skipFields(f.fields, version, flexible)
		if flexible {
			c.skipTags(f.name)
		}
	}
}

// skipKnownTags passes over the last section of tagged fields, and into those
// that kmsg takes apart.
func (c *cursor) skipKnownTags(tagged map[uint32][]field, version int16) {
	for n := c.tags("tags"); n > 0 && !c.failed(); n-- {
		number, size := c.tag("tags")
		fields, known := tagged[number]
		if !known {
			c.take(size, "tags")
			continue
		}
		outer := c.sub(size)
		c.skipFields(fields, version, true)
		c.take(c.remaining(), "tags")
		if !c.failed() {
			c.end = outer
		}
	}
}
