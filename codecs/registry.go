package codecs

import "fmt"

// Registry is the table from id to codec that a producer carries. It never
// changes once made, so any number of goroutines may read it; [Registry.With]
// gives a changed copy. Make one with [NewRegistry]: the zero value knows no
// codec at all.
type Registry struct {
	codecs [Zstd + 1]Codec
	// standard are this package's own, whatever replaces them.
	standard [Zstd + 1]Codec
}

// Option is a choice for [NewRegistry]. Where two concern the same id, the last
// one counts.
type Option func(*Registry) error

// WithLevel makes Kafka's own codec for id at a level; see [New] for the ranges
// and errors.
func WithLevel(id ID, level int) Option {
	return func(r *Registry) error {
		c, err := New(id, level)
		if err != nil {
			return err
		}
		r.codecs[id] = c
		return nil
	}
}

// WithCodec replaces the implementation of an id from 1 to 4 by the caller's
// own, for example to use a dictionary-free hardware gzip. What it writes must
// be the format the id stands for: brokers and consumers read it. Another id, 0
// included, is [ErrUnknownCodec], because brokers know no other; a nil codec is
// an error.
func WithCodec(id ID, c Codec) Option {
	return func(r *Registry) error {
		if id < Gzip || id > Zstd {
			return fmt.Errorf("codecs: %w: id %d cannot be replaced, want 1 to 4", ErrUnknownCodec, int8(id))
		}
		if c == nil {
			return fmt.Errorf("codecs: nil codec for %s", id)
		}
		r.codecs[id] = c
		return nil
	}
}

// standards are Kafka's own codecs at their default levels, the same for all
// registries of the process: what their pools keep, up to a megabyte for each
// encoder, serves whoever comes next.
var standards = func() (all [Zstd + 1]Codec) {
	for id := range all {
		c, err := New(ID(id), DefaultLevel)
		if err != nil {
			panic("codecs: the default level is refused: " + err.Error())
		}
		all[id] = c
	}
	return all
}()

// NewRegistry returns a registry of Kafka's own codecs at their default levels,
// changed by the options. The first option that fails is the error.
func NewRegistry(options ...Option) (*Registry, error) {
	r := &Registry{codecs: standards, standard: standards}
	for _, option := range options {
		if err := option(r); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// With returns a copy of the registry in which c implements id. The receiver is
// unchanged. Errors are those of [WithCodec].
func (r *Registry) With(id ID, c Codec) (*Registry, error) {
	changed := *r
	if err := WithCodec(id, c)(&changed); err != nil {
		return nil, err
	}
	return &changed, nil
}

// Standard returns this package's own codec of an id, also when a caller's own
// implements it: to read what that one wrote without running its code. An id
// outside 0 to 4 is [ErrUnknownCodec].
func (r *Registry) Standard(id ID) (Codec, error) {
	if id < None || id > Zstd || r.standard[id] == nil {
		return nil, fmt.Errorf("codecs: %w: id %d", ErrUnknownCodec, int8(id))
	}
	return r.standard[id], nil
}

// Lookup returns the codec of an id; for [None], one that copies. An id outside
// 0 to 4 is [ErrUnknownCodec].
func (r *Registry) Lookup(id ID) (Codec, error) {
	if id < None || id > Zstd || r.codecs[id] == nil {
		return nil, fmt.Errorf("codecs: %w: id %d", ErrUnknownCodec, int8(id))
	}
	return r.codecs[id], nil
}
