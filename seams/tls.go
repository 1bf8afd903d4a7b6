package seams

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"slices"
)

// The first two bytes of what a TLS server answers to something else: an alert, and the
// first byte of every version.
const (
	tlsAlert = 0x15
	tlsMajor = 0x03
)

var errSpeaksTLS = errors.New("the broker speaks TLS on this port, and the connection is set up without it")

// tlsSessions is how many sessions are kept to be resumed: one for each connection that
// a lost broker gets back at once, where there are not very many.
const tlsSessions = 256

// withSessions is a configuration that resumes sessions: all connections to a broker
// that comes back are made at the same moment. A session that is resumed shows no
// certificate and looks at none, so that it is only for clients without certificates of
// their own and without checks of their own.
func withSessions(config *tls.Config) *tls.Config {
	own := len(config.Certificates) > 0 || config.GetClientCertificate != nil || config.VerifyPeerCertificate != nil || config.VerifyConnection != nil
	if config.ClientSessionCache == nil && !config.SessionTicketsDisabled && !own {
		config = config.Clone()
		config.ClientSessionCache = tls.NewLRUClientSessionCache(tlsSessions)
	}
	return config
}

// secure makes the handshake on a new connection, which it closes if that fails.
func secure(ctx context.Context, conn net.Conn, address string, config *tls.Config) (net.Conn, error) {
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			host = address
		}
		config = config.Clone()
		config.ServerName = host
	}
	client := tls.Client(conn, config)
	if err := client.HandshakeContext(ctx); err != nil {
		hangUp(client)
		var plain tls.RecordHeaderError
		switch {
		case errors.As(err, &plain):
			err = fmt.Errorf("%w: the broker speaks no TLS on this port", err)
		case errors.Is(err, io.EOF):
			err = fmt.Errorf("%w: the broker closed the connection; it may speak no TLS on this port", err)
		}
		return nil, fmt.Errorf("TLS handshake with %s: %w", address, err)
	}
	return client, nil
}

// hangUp closes a connection without a wait. TLS would first say goodbye, for which it
// gives a peer that has stopped reading five seconds; frames tell where they end.
func hangUp(conn net.Conn) {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	_ = conn.Close()
}

// IsSecurityError reports whether two ends cannot agree on how to trust each other: a
// certificate that one of them refuses, or TLS on one side only. No retry helps until
// somebody changes a setting.
func IsSecurityError(err error) bool {
	var certificate *tls.CertificateVerificationError
	var plain tls.RecordHeaderError
	var network *net.OpError
	switch {
	case errors.As(err, &certificate), errors.As(err, &plain), errors.Is(err, errSpeaksTLS):
		return true
	case errors.As(err, &network) && network.Op == "remote error": // how crypto/tls names an alert
		if code := reflect.ValueOf(network.Err); code.Kind() == reflect.Uint8 {
			return slices.Contains(alertsOfTrust, code.Uint())
		}
	}
	return false
}

// alertsOfTrust are those of TLS's alerts (RFC 8446, section 6) by which a peer refuses
// a certificate, a name or what the two could have agreed on. Others are about bytes.
var alertsOfTrust = []uint64{
	40,                     // handshake_failure
	42, 43, 44, 45, 46, 48, // certificates
	49,     // access_denied
	51,     // decrypt_error: a signature that is none
	70, 71, // protocol_version, insufficient_security
	112, 116, 120, // unrecognized_name, certificate_required, no_application_protocol
}

// joinBytes is what is gathered before it is written: four of TLS's records.
const joinBytes = 64 << 10

// joiner writes frames where each call of Write costs, and a record on the wire: small
// slices together, and large ones as they are.
type joiner struct {
	conn   net.Conn
	buffer []byte
}

// write writes a frame, and returns how many bytes of it were taken.
func (j *joiner) write(frame [][]byte) (written int64, err error) {
	if j.buffer == nil {
		j.buffer = make([]byte, 0, joinBytes)
	}
	put := func(b []byte) {
		if err == nil && len(b) > 0 {
			var n int
			n, err = j.conn.Write(b)
			written += int64(n)
		}
	}
	flush := func() {
		put(j.buffer)
		j.buffer = j.buffer[:0]
	}
	for _, s := range frame {
		if len(s) > joinBytes/2 {
			flush()
			put(s)
			continue
		}
		if len(j.buffer)+len(s) > joinBytes {
			flush()
		}
		j.buffer = append(j.buffer, s...)
	}
	flush()
	return written, err
}
