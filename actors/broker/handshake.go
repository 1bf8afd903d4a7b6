package broker

import (
	"errors"
	"fmt"
	"io"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
	"github.com/troupe-kafka/troupe/seams"
)

// stage is what a connection waits for before it is up.
type stage int8

const (
	awaitsVersions  stage = iota // the broker's answer to ApiVersions
	awaitsMechanism              // its answer to SaslHandshake
	awaitsClient                 // the mechanism's next message
	awaitsServer                 // the broker's answer to SaslAuthenticate
)

// String says what a broker that says nothing owes.
func (s stage) String() string {
	return [...]string{"answer to ApiVersions", "answer to SaslHandshake", "word of the SASL mechanism", "answer to SaslAuthenticate"}[s]
}

// Correlation ids of the handshake: whatever comes is the answer to what was asked
// last, so they need not differ.
const handshakeCorrelation = 1

// apiVersionsMax is the newest ApiVersions request that is tried first; a
// broker that does not know it says so in version 0 (KIP-511).
const apiVersionsMax = 3

func (k *connection) ask(version int16) {
	k.asked = version
	r := kmsg.NewPtrApiVersionsRequest()
	r.ClientSoftwareName, r.ClientSoftwareVersion = k.settings.Software, k.settings.SoftwareVer
	k.write(r, version)
}

// write sends a request of the handshake.
func (k *connection) write(r kmsg.Request, version int16) {
	r.SetVersion(version)
	frame := protocol.AppendRequestHeader(make([]byte, 4, 128), r.Key(), version, handshakeCorrelation, k.settings.ClientID, r.IsFlexible())
	frame = r.AppendTo(frame)
	protocol.PutFrameSize(frame)
	k.link.connection.Write([][]byte{frame}, ignoreWrite{})
}

type ignoreWrite struct{}

func (ignoreWrite) Written(error, bool) {}

// read decodes an answer of the handshake.
func read(frame []byte, r kmsg.Response, version int16) error {
	r.SetVersion(version)
	// The header of an answer to ApiVersions is never flexible (KIP-511).
	_, body, err := protocol.ResponseHeader(frame, r.IsFlexible() && r.Key() != int16(kmsg.ApiVersions))
	if err == nil {
		err = protocol.CheckControlResponse(r.Key(), version, body)
	}
	if err == nil {
		err = r.ReadFrom(body)
	}
	return err
}

// handshake takes what comes before the connection is up.
func (k *connection) handshake(c actor.Context, frame []byte) {
	if k.up {
		return
	}
	var err error
	switch k.stage {
	case awaitsVersions:
		err = k.takeVersions(c, frame)
	case awaitsMechanism:
		err = k.takeMechanism(c, frame)
	case awaitsServer:
		err = k.takeChallenge(c, frame)
	default:
		err = fmt.Errorf("%s said something that nobody had asked for", k.info.Address)
	}
	if err != nil {
		k.link.connection.Close(err)
	}
}

// takeVersions takes the answer to ApiVersions.
func (k *connection) takeVersions(c actor.Context, frame []byte) error {
	_, body, err := protocol.ResponseHeader(frame, false)
	if err != nil {
		return err
	}
	if len(body) >= 2 && protocol.ErrorCode(int16(body[0])<<8|int16(body[1])) == protocol.UnsupportedVersion {
		if k.asked == 0 {
			return fmt.Errorf("%w: broker %s refuses ApiVersions 0", protocol.UnsupportedVersion, k.info.Address)
		}
		k.ask(0)
		return nil
	}
	r := kmsg.NewPtrApiVersionsResponse()
	err = read(frame, r, k.asked)
	if err == nil && r.ErrorCode != 0 {
		err = protocol.ErrorCode(r.ErrorCode)
	}
	if err == nil {
		k.versions, err = negotiate(r)
	}
	if err != nil {
		return fmt.Errorf("version negotiation with %s: %w", k.info.Address, err)
	}
	if k.settings.SASL != nil {
		return k.beginAuthentication(r)
	}
	k.open(c, 0)
	return nil
}

// open hands the connection to the broker, which may use it until an instant.
func (k *connection) open(c actor.Context, until seams.Instant) {
	k.up = true
	k.stopPatience()
	k.who.stop()
	k.link.up.Store(true)
	c.Send(k.broker, &messages.ConnectionUp{
		Lane: k.lane, Generation: k.link.generation, Connection: k.link.connection, Versions: k.versions, Until: until,
	})
}

// hungUpAtOnce reports whether a broker ended the connection instead of answering its
// first request, as one does that wants to know who speaks.
func (k *connection) hungUpAtOnce(reason error) bool {
	return k.up && k.settings.SASL == nil && !k.link.answered && k.lane != messages.LaneNoAcks && errors.Is(reason, io.EOF)
}

// explained adds to the reason of an end what it most likely means.
func (k *connection) explained(reason error) error {
	switch {
	case k.who.refused != nil && !errors.Is(reason, messages.ErrAuthentication):
		return k.who.refused
	case !k.up && seams.IsSecurityError(reason):
		return fmt.Errorf("%w: %w", messages.ErrAuthentication, reason)
	case k.hungUpAtOnce(reason):
		return fmt.Errorf("%w (%s ended it at the first request: its listener may want SASL)", reason, k.info.Address)
	case k.up || !k.opened || !errors.Is(reason, io.EOF):
	case k.stage == awaitsVersions:
		return fmt.Errorf("%w (%s ended it instead of answering ApiVersions: it may expect TLS on this port, or none)", reason, k.info.Address)
	case k.stage == awaitsServer:
		return fmt.Errorf("%w (%s ended it during authentication)", reason, k.info.Address)
	}
	return reason
}

// The versions that this client speaks, lowest and highest. Brokers advertise
// Produce from 0 though they refuse what is below 3 (KIP-896, KAFKA-18659).
var ours = [...]struct {
	key          kmsg.Key
	lowest, most int16
	of           func(*messages.Versions) *int16
}{
	{kmsg.Produce, 3, 13, func(v *messages.Versions) *int16 { return &v.Produce }},
	{kmsg.Metadata, 1, 12, func(v *messages.Versions) *int16 { return &v.Metadata }},
	{kmsg.InitProducerID, 0, 5, func(v *messages.Versions) *int16 { return &v.InitProducerID }},
}

func negotiate(r *kmsg.ApiVersionsResponse) (messages.Versions, error) {
	v := messages.Versions{Produce: -1, Metadata: -1, InitProducerID: -1}
	for i := range r.ApiKeys {
		k := &r.ApiKeys[i]
		for o := range ours {
			own := &ours[o]
			if own.key.Int16() != k.ApiKey {
				continue
			}
			most := min(own.most, k.MaxVersion)
			if most < max(own.lowest, k.MinVersion) {
				return v, fmt.Errorf("%w: no common version of api %s: broker has %d to %d, this client %d to %d",
					protocol.UnsupportedVersion, kmsg.NameForKey(k.ApiKey), k.MinVersion, k.MaxVersion, own.lowest, own.most)
			}
			*own.of(&v) = most
		}
	}
	return v, nil
}
