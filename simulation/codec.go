package simulation

import (
	"time"

	"github.com/troupe-kafka/troupe"
	"github.com/troupe-kafka/troupe/codecs"
)

// slowCodec is a user's codec: it takes its time, and virtual time goes by.
type slowCodec struct {
	codecs.Codec
	run *run
}

// Compress implements codecs.Codec.
func (c slowCodec) Compress(dst, src []byte) ([]byte, error) {
	if f := c.run.faults.happens(CodecSlow, place{}); f != nil {
		c.run.scheduler.sleep(time.Duration(f.For))
	}
	return c.Codec.Compress(dst, src)
}

// ownCodecs makes slow codecs of Troupe's own, if any is to be slow.
func (r *run) ownCodecs() (options []troupe.Option) {
	if !r.faults.may(CodecSlow) {
		return nil
	}
	own, err := codecs.NewRegistry()
	if err != nil {
		panic(err)
	}
	for _, id := range []codecs.ID{codecs.Snappy, codecs.LZ4} {
		c, err := own.Lookup(id)
		if err != nil {
			panic(err)
		}
		options = append(options, troupe.WithCodec(id, slowCodec{c, r}))
	}
	return options
}
