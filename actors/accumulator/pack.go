package accumulator

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/troupe-kafka/troupe/memory"
	"github.com/troupe-kafka/troupe/messages"
	"github.com/troupe-kafka/troupe/protocol"
)

// compress asks for a batch to be packed; the codec holds its buffers meanwhile.
func (s *State) compress(b *batch) {
	if b.packedChunk != nil {
		s.fx.freed = append(s.fx.freed, b.packedChunk)
	}
	b.packed, b.packedChunk, b.compressing = nil, nil, true
	b.holds.Add(1)
	s.fx.compress = append(s.fx.compress, b)
}

// packed takes in what the codec made, behind room for a header, and gives the
// plain records back: nobody else reads them, since a batch is compressed before
// it is handed over. So a batch takes its two sizes only while it is compressed.
func (s *State) packed(b *batch, c *memory.Chunk) {
	b.packedChunk, b.packed, b.packedCodec = c, c.Bytes[protocol.BatchHeaderSize:], b.codec
	s.fx.free(b.chunks)
	b.chunks, b.chunkFirst, b.tail = nil, nil, nil
}

// unpack gives a compressed batch its plain records back, so that they can be cut
// or split. It runs under the lock, and therefore none of the caller's code: whatever
// wrote the batch, this package's own codec has to read it, as brokers and consumers
// will. An old write may still be reading the compressed form, which stays until then.
func (s *State) unpack(b *batch) error {
	if b.packed == nil {
		return nil
	}
	codec, err := s.codecs.Standard(b.packedCodec)
	plain := make([]byte, protocol.BatchHeaderSize, protocol.BatchHeaderSize+b.bytes)
	if err == nil {
		plain, err = codec.Decompress(plain, b.packed, b.bytes)
	}
	if n := len(plain) - protocol.BatchHeaderSize; err == nil && n != b.bytes {
		err = fmt.Errorf("%d bytes, expected %d", n, b.bytes)
	}
	if err != nil {
		return fmt.Errorf("%w: what codec %s wrote cannot be read back: %w", messages.ErrInternal, b.packedCodec, err)
	}
	b.packed = nil
	b.chunks, b.chunkFirst = []*memory.Chunk{s.charge(plain)}, []int32{0}
	return nil
}

// compress packs a sealed batch. Nobody else touches its records meanwhile; if
// packing does not make it smaller, or fails, it goes out as it is.
func (b *Box) compress(p *batch) {
	packed, err := b.pack(p)
	if err != nil {
		b.settings.Gate.Happened(messages.Occurrence{
			Kind: messages.LogNotCompressed, Broker: -1, Err: fmt.Errorf("%s, topic %s: %w", p.codec, b.state.topic, err),
		})
	}
	defer p.release()
	b = p.lockBox() // it may have moved meanwhile
	held := true
	defer func() {
		if held { // whose executor this is, would not survive it
			b.survive(&held, recover(), "a batch that was packed could not be taken in")
		}
	}()
	p.compressing = false
	if packed != nil && !p.settled {
		b.state.packed(p, b.budget.Adopt(b.account.Load(), packed))
	}
	b.mendFirst()
	now := b.settings.Clock.Now()
	b.state.review(now)
	at := b.state.nextDeadline(now)
	held = false
	b.unlock(at)
}

// lockBox locks the box that has the batch.
func (b *batch) lockBox() *Box {
	for {
		box := b.box.Load()
		box.mu.Lock()
		if b.box.Load() == box {
			return box
		}
		box.mu.Unlock()
	}
}

func (b *Box) pack(p *batch) (packed []byte, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			packed, err = nil, errors.Join(messages.ErrInternal, errors.New("codec panicked"))
		}
	}()
	codec, err := b.settings.Codecs.Lookup(p.codec)
	if err != nil {
		return nil, err
	}
	bench := benches.Get().(*workbench)
	defer benches.Put(bench)
	records := p.contiguous(&bench.plain)
	const header = protocol.BatchHeaderSize
	packed, err = codec.Compress(slices.Grow(bench.packed[:0], header)[:header], records)
	if err != nil {
		return nil, err
	}
	if len(packed) < header {
		return nil, errors.New("the codec did not append to what it was given")
	}
	bench.packed = packed
	if len(packed) >= header+len(records) {
		return nil, nil
	}
	return bytes.Clone(packed), nil // as large as it is: the budget counts it
}
