package protocol

import (
	"encoding/binary"
	"math"
)

// Every request travels as a frame: an int32 with the size of what follows, a
// header, a body. The header is version 1, or version 2 for flexible requests,
// which adds a section of tagged fields (KIP-482).

// FrameSizeBytes is the size in bytes of the length in front of every request
// and every response.
const FrameSizeBytes = 4

// requestHeaderOverhead bounds a request header without the client id: api key,
// version, correlation id, length of the client id, tags.
const requestHeaderOverhead = 2 + 2 + 4 + 2 + 1

// AppendRequestHeader appends the header of a request to dst, without the frame
// size: version 2 of the header if flexible, else version 1. Whether a version
// of an API is flexible is for the caller to know (kmsg's IsFlexible). The
// client id is never null, may be empty, and keeps its 16-bit length even in the
// flexible header, so that a broker can read it before it knows the version; it
// must not exceed 32,767 bytes (it panics).
func AppendRequestHeader(dst []byte, apiKey, version int16, correlationID int32, clientID string, flexible bool) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(apiKey))
	dst = binary.BigEndian.AppendUint16(dst, uint16(version))
	dst = binary.BigEndian.AppendUint32(dst, uint32(correlationID))
	dst = appendString(dst, clientID)
	if flexible {
		dst = append(dst, 0) // no tagged fields
	}
	return dst
}

// PutFrameSize stores the size of a request in its first FrameSizeBytes bytes,
// which were reserved for it. The rest of frame is the header and the body, at
// most math.MaxInt32 bytes (it panics); brokers refuse more than
// socket.request.max.bytes, 100 MiB by default.
func PutFrameSize(frame []byte) {
	putFrameSize(frame, int64(len(frame)-FrameSizeBytes))
}

func putFrameSize(frame []byte, size int64) {
	if size < 0 || size > math.MaxInt32 {
		panic("protocol: a request must take at most 2 GiB")
	}
	binary.BigEndian.PutUint32(frame, uint32(size))
}

// ResponseHeader reads the header of a response, given without its frame size,
// and returns the correlation id and the body. flexible means header version 1,
// with tagged fields, which are skipped: it is so for every flexible request but
// ApiVersions, whose responses keep header version 0 so that a client can read
// them before it knows what the broker speaks (KIP-511). The error is a
// [*DecodeError].
func ResponseHeader(body []byte, flexible bool) (correlationID int32, rest []byte, err error) {
	c := newCursor(body)
	correlationID = responseHeader(&c, flexible)
	if err := c.error(); err != nil {
		return 0, nil, err
	}
	return correlationID, body[c.off:], nil
}

func responseHeader(c *cursor, flexible bool) int32 {
	correlationID := c.int32("correlation_id")
	if flexible {
		c.skipTags("response_header.tags")
	}
	return correlationID
}

// appendString appends a string with a 16-bit length.
func appendString(dst []byte, s string) []byte {
	if len(s) > math.MaxInt16 {
		panic("protocol: a string in a request must take at most 32,767 bytes")
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}

// appendCompactString appends a string with its length plus one as a uvarint.
func appendCompactString(dst []byte, s string) []byte {
	if len(s) > math.MaxInt16 {
		panic("protocol: a string in a request must take at most 32,767 bytes")
	}
	dst = appendUvarint(dst, uint32(len(s))+1)
	return append(dst, s...)
}

// appendArrayLen appends the number of elements of an array.
func appendArrayLen(dst []byte, n int, flexible bool) []byte {
	if n < 0 || n >= math.MaxInt32 {
		panic("protocol: impossible number of elements in a request")
	}
	if flexible {
		return appendUvarint(dst, uint32(n)+1)
	}
	return binary.BigEndian.AppendUint32(dst, uint32(n))
}
