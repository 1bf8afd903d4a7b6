package main

import (
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"syscall"
)

const (
	keyProduce         = 0
	keyFetch           = 1
	keyMetadata        = 3
	keyFindCoordinator = 10
	keyAPIVersions     = 18
	keyInitProducerID  = 22
)

// A connection serves one socket, one request after the other, as Kafka does.
type connection struct {
	*cluster
	node int32
	sock net.Conn
	in   reader
	out  []byte // the answer; the first four bytes are its size

	header     [batchHeaderBytes]byte // of the batch being read
	complaints int
}

func (c *cluster) accept(node int32, l net.Listener) {
	for {
		sock, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		c.connections.Add(1)
		conn := &connection{cluster: c, node: node, sock: sock, in: reader{src: sock, buf: make([]byte, c.buffer)}}
		go func() {
			defer func() { _ = sock.Close() }() // the other end has gone already
			if err := conn.serve(); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
				log.Printf("broker %d, %s: %v", node, sock.RemoteAddr(), err)
			}
		}()
	}
}

// serve always returns an error: io.EOF when the client has closed.
func (c *connection) serve() error {
	for {
		if err := c.in.frame(); err != nil {
			return err
		}
		key, version := c.in.int16(), c.in.int16()
		correlation := c.in.int32()
		c.out = binary.BigEndian.AppendUint32(append(c.out[:0], 0, 0, 0, 0), uint32(correlation))
		answer, err := true, error(nil)
		if key == keyProduce {
			answer, err = c.produce(version)
		} else {
			err = c.control(key, version)
		}
		if err != nil {
			return err
		}
		if answer {
			binary.BigEndian.PutUint32(c.out, uint32(len(c.out)-4))
			if _, err := c.sock.Write(c.out); err != nil {
				return err
			}
		}
	}
}

// complain logs what the client will find in an answer, the first few times.
func (c *connection) complain(format string, args ...any) {
	const most = 10
	if c.complaints++; c.complaints <= most {
		log.Printf(format, args...)
	}
}
