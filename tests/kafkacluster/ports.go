package kafkacluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports come in blocks from below the range that systems give to outgoing
// connections. Otherwise, while a broker is down, some connection could take its
// port, or one that is made to it could connect to itself. The first port of a
// block is listened on for as long as the cluster lives and so marks the block
// as taken, across processes.
const (
	firstPort  = 17000
	lastPort   = 31999
	portsBlock = 24 // three brokers, up to seven listeners each
)

// portBlock is a block of loopback ports that no other cluster uses.
type portBlock struct {
	guard net.Listener
	next  int
}

func reservePorts() (*portBlock, error) {
	blocks := (lastPort - firstPort + 1) / portsBlock
	start := rand.IntN(blocks)
	for try := range blocks {
		first := firstPort + (start+try)%blocks*portsBlock
		guard, err := net.Listen("tcp4", loopback(first))
		if err != nil {
			continue
		}
		if allFree(first+1, first+portsBlock) {
			return &portBlock{guard: guard, next: first + 1}, nil
		}
		_ = guard.Close()
	}
	return nil, errors.New("kafkacluster: no free block of ports on the loopback interface")
}

func allFree(from, to int) bool {
	for port := from; port < to; port++ {
		listener, err := net.Listen("tcp4", loopback(port))
		if err != nil {
			return false
		}
		_ = listener.Close()
	}
	return true
}

// address hands out the next port of the block.
func (b *portBlock) address() (string, error) {
	_, guard, _ := net.SplitHostPort(b.guard.Addr().String())
	first, err := strconv.Atoi(guard)
	if err != nil {
		return "", err
	}
	if b.next >= first+portsBlock {
		return "", fmt.Errorf("kafkacluster: more than %d listeners", portsBlock-1)
	}
	b.next++
	return loopback(b.next - 1), nil
}

func (b *portBlock) release() { _ = b.guard.Close() }

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
