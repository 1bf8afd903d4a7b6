package sasl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// wire is a socket to a broker, with requests one after the other.
type wire struct {
	socket net.Conn
	format *kmsg.RequestFormatter
}

func dial(t *testing.T, address string) *wire {
	t.Helper()
	socket, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	_ = socket.SetDeadline(time.Now().Add(20 * time.Second))
	return &wire{socket, kmsg.NewRequestFormatter(kmsg.FormatterClientID("sasl-test"))}
}

// ask sends a request and reads the answer into response.
func (w *wire) ask(request kmsg.Request, response kmsg.Response) error {
	if _, err := w.socket.Write(w.format.AppendRequest(nil, request, 7)); err != nil {
		return err
	}
	var size [4]byte
	if _, err := io.ReadFull(w.socket, size[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n < 5 || n > 1<<20 {
		return fmt.Errorf("an answer of %d bytes", n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(w.socket, body); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(body) != 7 {
		return errors.New("the answer to something else")
	}
	body = body[4:]
	if request.IsFlexible() {
		if body[0] != 0 {
			return errors.New("tags in the header of an answer")
		}
		body = body[1:]
	}
	response.SetVersion(request.GetVersion())
	return response.ReadFrom(body)
}

// authenticate is what a connection does with a mechanism: SaslHandshake 1, and then
// SaslAuthenticate 2 for each message (KIP-43, KIP-152).
func (w *wire) authenticate(ctx context.Context, m Mechanism) error {
	handshake := kmsg.NewPtrSASLHandshakeRequest()
	handshake.Version, handshake.Mechanism = 1, m.Name()
	hands := kmsg.NewPtrSASLHandshakeResponse()
	if err := w.ask(handshake, hands); err != nil {
		return err
	}
	if hands.ErrorCode != 0 {
		return fmt.Errorf("handshake: code %d, there are %v", hands.ErrorCode, hands.SupportedMechanisms)
	}
	e, message, err := m.Start(ctx, w.socket.RemoteAddr().String())
	if err != nil {
		return err
	}
	for {
		request := kmsg.NewPtrSASLAuthenticateRequest()
		request.Version, request.SASLAuthBytes = 2, message
		answer := kmsg.NewPtrSASLAuthenticateResponse()
		if err := w.ask(request, answer); err != nil {
			return err
		}
		if answer.ErrorCode != 0 {
			return fmt.Errorf("authenticate: code %d", answer.ErrorCode)
		}
		response, done, err := e.Next(answer.SASLAuthBytes)
		if err != nil || done {
			return err
		}
		message = response
	}
}

// answers reports whether the broker talks of its topics to who it takes us for.
func (w *wire) answers() error {
	request := kmsg.NewPtrMetadataRequest()
	request.Version = 9
	metadata := kmsg.NewPtrMetadataResponse()
	if err := w.ask(request, metadata); err != nil {
		return err
	}
	if len(metadata.Brokers) != 1 {
		return fmt.Errorf("%d brokers", len(metadata.Brokers))
	}
	return nil
}

// TestKfake speaks to a broker that was written by others, through its own frames.
func TestKfake(t *testing.T) {
	const prepared = "ﬁ\u00a0x" // SASLprep would change it; Kafka and kfake do not
	options := []kfake.Opt{kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("PLAIN", "root", "root's")}
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		options = append(options, kfake.User(mechanism, testUser, testPassword), kfake.User(mechanism, "a,b=c", prepared))
	}
	cluster, err := kfake.NewCluster(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	address := cluster.ListenAddrs()[0]

	if err := dial(t, address).answers(); err == nil {
		t.Fatal("the broker talks to anybody: this test proves nothing")
	}
	for name, of := range map[string]func(user, password string) Mechanism{
		"PLAIN": Plain, "SCRAM-SHA-256": Scram256, "SCRAM-SHA-512": Scram512,
	} {
		t.Run(name, func(t *testing.T) {
			right := of(testUser, testPassword)
			for _, m := range []Mechanism{right, right, of("a,b=c", prepared)} {
				w := dial(t, address)
				if err := w.authenticate(t.Context(), m); err != nil {
					t.Fatal(err)
				}
				if err := w.answers(); err != nil {
					t.Fatal(err)
				}
			}
			for _, m := range []Mechanism{of(testUser, "wrong"), of("nobody", testPassword), of("a,b=c", "fi x")} {
				w := dial(t, address)
				// kfake ends the connection where Kafka has an error code.
				if err := w.authenticate(t.Context(), m); err == nil {
					t.Error("taken with a wrong password")
				}
				if err := w.answers(); err == nil {
					t.Error("the broker goes on talking")
				}
			}
		})
	}
	if err := dial(t, address).authenticate(t.Context(), given(Token{Value: testToken})); err == nil {
		t.Error("taken by a broker that does not know OAUTHBEARER")
	}
}
