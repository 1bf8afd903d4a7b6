package protocol

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// controlResponses makes a random answer of each kind in a version.
var controlResponses = map[int16]func(r *rand.Rand, version int16) kmsg.Response{
	apiKeyMetadata: func(r *rand.Rand, version int16) kmsg.Response {
		a := kmsg.NewPtrMetadataResponse()
		a.SetVersion(version)
		a.ClusterID = randomNullable(r)
		for range r.IntN(4) {
			b := kmsg.NewMetadataResponseBroker()
			b.NodeID, b.Host, b.Port, b.Rack = r.Int32(), randomString(r, 300), r.Int32(), randomNullable(r)
			tagWith(r, version >= 9, &b.UnknownTags)
			a.Brokers = append(a.Brokers, b)
		}
		for range r.IntN(4) {
			t := kmsg.NewMetadataResponseTopic()
			t.Topic, t.ErrorCode, t.TopicID = kmsg.StringPtr(randomString(r, 20)), int16(r.IntN(100)), [16]byte{1, byte(r.IntN(256))}
			if version >= 12 && r.IntN(4) == 0 {
				t.Topic = nil
			}
			for range r.IntN(4) {
				p := kmsg.NewMetadataResponseTopicPartition()
				p.Partition, p.Leader, p.LeaderEpoch = r.Int32(), r.Int32(), r.Int32()
				p.Replicas, p.ISR, p.OfflineReplicas = make([]int32, r.IntN(4)), make([]int32, r.IntN(4)), make([]int32, r.IntN(4))
				tagWith(r, version >= 9, &p.UnknownTags)
				t.Partitions = append(t.Partitions, p)
			}
			tagWith(r, version >= 9, &t.UnknownTags)
			a.Topics = append(a.Topics, t)
		}
		tagWith(r, version >= 9, &a.UnknownTags)
		return a
	},
	apiKeyApiVersions: func(r *rand.Rand, version int16) kmsg.Response {
		a := kmsg.NewPtrApiVersionsResponse()
		a.SetVersion(version)
		for range r.IntN(70) {
			k := kmsg.NewApiVersionsResponseApiKey()
			k.ApiKey, k.MaxVersion = int16(r.IntN(90)), int16(r.IntN(20))
			tagWith(r, version >= 3, &k.UnknownTags)
			a.ApiKeys = append(a.ApiKeys, k)
		}
		if version >= 3 {
			for range r.IntN(3) {
				a.SupportedFeatures = append(a.SupportedFeatures, kmsg.ApiVersionsResponseSupportedFeature{Name: randomString(r, 9), MaxVersion: 3})
				a.FinalizedFeatures = append(a.FinalizedFeatures, kmsg.ApiVersionsResponseFinalizedFeature{Name: randomString(r, 9)})
			}
			a.FinalizedFeaturesEpoch, a.ZkMigrationReady = int64(r.IntN(3))-1, r.IntN(2) == 0
			a.UnknownTags.Set(9, []byte("later"))
		}
		return a
	},
	apiKeySaslHandshake: func(r *rand.Rand, version int16) kmsg.Response {
		a := kmsg.NewPtrSASLHandshakeResponse()
		a.SetVersion(version)
		a.ErrorCode = int16(r.IntN(100))
		for range r.IntN(4) {
			a.SupportedMechanisms = append(a.SupportedMechanisms, randomString(r, 20))
		}
		return a
	},
	apiKeySaslAuthenticate: func(r *rand.Rand, version int16) kmsg.Response {
		a := kmsg.NewPtrSASLAuthenticateResponse()
		a.SetVersion(version)
		a.ErrorCode, a.ErrorMessage, a.SASLAuthBytes, a.SessionLifetimeMillis = int16(r.IntN(100)), randomNullable(r), randomBytes(r, 200), r.Int64()
		tagWith(r, version >= 2, &a.UnknownTags)
		return a
	},
	apiKeyInitProducerID: func(r *rand.Rand, version int16) kmsg.Response {
		a := kmsg.NewPtrInitProducerIDResponse()
		a.SetVersion(version)
		a.ProducerID, a.ProducerEpoch = r.Int64(), int16(r.IntN(1000))
		tagWith(r, version >= 2, &a.UnknownTags)
		return a
	},
}

func randomNullable(r *rand.Rand) *string {
	if r.IntN(3) == 0 {
		return nil
	}
	return kmsg.StringPtr(randomString(r, 20))
}

func tagWith(r *rand.Rand, flexible bool, tags *kmsg.Tags) {
	for range r.IntN(3) {
		if flexible {
			tags.Set(uint32(r.IntN(1<<20)), randomBytes(r, 200))
		}
	}
}

// TestControlResponsesPass: what kmsg writes passes in every version, with
// nothing left over, and with a byte less it does not. So the walk steps over
// exactly the fields that there are.
func TestControlResponsesPass(t *testing.T) {
	r := newRand(41)
	for key, random := range controlResponses {
		a := controlAnswers[key]
		for version := a.min; version <= a.max; version++ {
			for range 200 {
				body := random(r, version).AppendTo(nil)
				if err := CheckControlResponse(key, version, body); err != nil {
					t.Fatalf("api %d version %d: %v: %x", key, version, err, body)
				}
				if err := CheckControlResponse(key, version, append(body, 1, 2, 3)); err != nil {
					t.Fatalf("api %d version %d: bytes behind it: %v", key, version, err)
				}
				cut := r.IntN(min(len(body), 3)) + 1
				err := CheckControlResponse(key, version, body[:len(body)-cut])
				if err == nil {
					t.Fatalf("api %d version %d: passes without its last %d bytes: %x", key, version, cut, body)
				}
				checkDecodeError(t, err, len(body))
			}
		}
		for _, version := range []int16{a.min - 1, a.max + 1} {
			if err := CheckControlResponse(key, version, nil); !errors.Is(err, ErrVersion) {
				t.Errorf("api %d version %d: %v", key, version, err)
			}
		}
	}
	if err := CheckControlResponse(0, 9, nil); !errors.Is(err, ErrVersion) {
		t.Errorf("Produce: %v", err)
	}
}

// TestCountsThatLie: each of these few bytes had kmsg work for seconds, or make
// room for gigabytes.
func TestCountsThatLie(t *testing.T) {
	most := []byte{0xff, 0xff, 0xff, 0xff, 0x0f} // 2³² − 1
	large := binary.AppendUvarint(nil, 1<<31)
	metadata := kmsg.NewPtrMetadataResponse()
	metadata.SetVersion(12)
	metadata.Brokers = []kmsg.MetadataResponseBroker{{NodeID: 1, Host: "broker-1.kafka.example.org", Port: 9092}}
	whole := metadata.AppendTo(nil)
	init := kmsg.NewPtrInitProducerIDResponse()
	init.SetVersion(5)
	versions := kmsg.NewPtrApiVersionsResponse()
	versions.SetVersion(3)
	versions.ApiKeys = []kmsg.ApiVersionsResponseApiKey{{ApiKey: 3, MaxVersion: 12}}
	keys := versions.AppendTo(nil)
	behind := func(b, count []byte, more int) []byte { // in place of the last tag count
		return append(append(b[:len(b)-1:len(b)-1], count...), make([]byte, more)...)
	}
	for name, c := range map[string]struct {
		key, version int16
		body         []byte
	}{
		"70 bytes of metadata, tags":         {apiKeyMetadata, 12, behind(whole, most, 70-len(whole)-4)},
		"metadata, tags":                     {apiKeyMetadata, 9, behind(func() []byte { metadata.SetVersion(9); return metadata.AppendTo(nil) }(), most, 0)},
		"metadata, tags of a broker":         {apiKeyMetadata, 12, append(append(append([]byte{0, 0, 0, 0, 2, 0, 0, 0, 1, 2, 'h', 0, 0, 35, 132, 0}, most...), make([]byte, 40)...), 0)},
		"metadata, brokers":                  {apiKeyMetadata, 12, append(append([]byte{0, 0, 0, 0}, large...), make([]byte, 60)...)},
		"metadata, more brokers than bytes":  {apiKeyMetadata, 12, append([]byte{0, 0, 0, 0, 30}, make([]byte, 60)...)},
		"metadata, brokers, not flexible":    {apiKeyMetadata, 8, append([]byte{0, 0, 0, 0, 127, 255, 255, 255}, make([]byte, 60)...)},
		"metadata, negative, not flexible":   {apiKeyMetadata, 8, append([]byte{0, 0, 0, 0, 128, 0, 0, 0}, make([]byte, 60)...)},
		"metadata, topics":                   {apiKeyMetadata, 12, append(append([]byte{0, 0, 0, 0, 1, 0, 0, 0, 0, 1}, large...), make([]byte, 60)...)},
		"metadata, host of a broker":         {apiKeyMetadata, 12, append(append([]byte{0, 0, 0, 0, 2, 0, 0, 0, 1}, large...), make([]byte, 60)...)},
		"producer id, tags":                  {apiKeyInitProducerID, 5, behind(init.AppendTo(nil), most, 9)},
		"producer id, size of a tag":         {apiKeyInitProducerID, 5, append(behind(init.AppendTo(nil), []byte{1, 7}, 0), most...)},
		"versions, keys":                     {apiKeyApiVersions, 3, append([]byte{0, 0}, append(large, make([]byte, 60)...)...)},
		"versions, keys, not flexible":       {apiKeyApiVersions, 0, append([]byte{0, 0, 127, 255, 255, 255}, make([]byte, 60)...)},
		"versions, tags of a key":            {apiKeyApiVersions, 3, append(append([]byte{0, 0, 2, 0, 3, 0, 0, 0, 12}, most...), make([]byte, 9)...)},
		"versions, tags":                     {apiKeyApiVersions, 3, behind(keys, most, 20)},
		"versions, features inside a tag":    {apiKeyApiVersions, 3, append(behind(keys, []byte{1, 0, 20}, 0), append(large, make([]byte, 15)...)...)},
		"versions, tags of a feature":        {apiKeyApiVersions, 3, append(behind(keys, []byte{1, 2, 20, 2, 2, 'f', 0, 1, 0, 1}, 0), append(most, make([]byte, 8)...)...)},
		"versions, epoch outside of its tag": {apiKeyApiVersions, 3, append(behind(keys, []byte{1, 1, 2}, 0), make([]byte, 20)...)},
	} {
		err := CheckControlResponse(c.key, c.version, c.body)
		if err == nil {
			t.Errorf("%s: passes", name)
			continue
		}
		checkDecodeError(t, err, len(c.body))
		if !errors.Is(err, ErrLength) && !errors.Is(err, ErrTruncated) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzControlResponse: what passes, kmsg can decode, and it makes no more of it
// than the bytes hold.
func FuzzControlResponse(f *testing.F) {
	r := newRand(42)
	for key, random := range controlResponses {
		for version := controlAnswers[key].min; version <= controlAnswers[key].max; version++ {
			f.Add(key, version, random(r, version).AppendTo(nil))
		}
	}
	f.Add(int16(apiKeyInitProducerID), int16(5), []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\x0f"))
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		if err := CheckControlResponse(key, version, body); err != nil {
			checkDecodeError(t, err, len(body))
			return
		}
		a := kmsg.RequestForKey(key).ResponseKind()
		a.SetVersion(version)
		if err := a.ReadFrom(body); err != nil {
			t.Fatalf("api %d version %d passes, and kmsg says %v", key, version, err)
		}
		least := 0
		switch a := a.(type) {
		case *kmsg.MetadataResponse:
			least = 10*len(a.Brokers) + 8*len(a.Topics)
			for _, topic := range a.Topics {
				least += 18 * len(topic.Partitions)
				for _, p := range topic.Partitions {
					least += 4 * (len(p.Replicas) + len(p.ISR) + len(p.OfflineReplicas))
				}
			}
		case *kmsg.ApiVersionsResponse:
			least = 6*len(a.ApiKeys) + 6*len(a.SupportedFeatures)
		case *kmsg.SASLHandshakeResponse:
			least = 2 * len(a.SupportedMechanisms)
		case *kmsg.SASLAuthenticateResponse:
			least = len(a.SASLAuthBytes)
		case *kmsg.InitProducerIDResponse:
		default:
			t.Fatalf("%T passes", a)
		}
		if least > len(body) {
			t.Fatalf("%d bytes became what takes %d", len(body), least)
		}
	})
}
