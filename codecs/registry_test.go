package codecs

import (
	"errors"
	"testing"
)

type ownCodec struct{ noneCodec }

func TestRegistry(t *testing.T) {
	r, err := NewRegistry()
	if err != nil {
		t.Fatal(err)
	}
	for id := None; id <= Zstd; id++ {
		if c, err := r.Lookup(id); c == nil || err != nil {
			t.Errorf("Lookup(%s) = %v, %v", id, c, err)
		}
	}
	for _, id := range []ID{-1, 5, 7} {
		if _, err := r.Lookup(id); !errors.Is(err, ErrUnknownCodec) {
			t.Errorf("Lookup(%d): %v", id, err)
		}
	}
	if _, err := new(Registry).Lookup(Gzip); !errors.Is(err, ErrUnknownCodec) {
		t.Errorf("zero registry: %v", err)
	}
}

func TestRegistryWithLeavesTheReceiver(t *testing.T) {
	r, _ := NewRegistry()
	changed, err := r.With(Gzip, ownCodec{})
	if err != nil {
		t.Fatal(err)
	}
	if c, _ := changed.Lookup(Gzip); c != (ownCodec{}) {
		t.Errorf("changed registry has %T", c)
	}
	if c, _ := r.Lookup(Gzip); c == (ownCodec{}) {
		t.Error("With changed its receiver")
	}
	for _, id := range []ID{None, -1, 5} {
		if _, err := r.With(id, ownCodec{}); !errors.Is(err, ErrUnknownCodec) {
			t.Errorf("With(%d): %v", id, err)
		}
	}
	if _, err := r.With(Gzip, nil); err == nil {
		t.Error("nil codec accepted")
	}
}

func TestRegistryOptions(t *testing.T) {
	r, err := NewRegistry(WithLevel(Zstd, 1), WithCodec(LZ4, ownCodec{}), WithLevel(Snappy, DefaultLevel))
	if err != nil {
		t.Fatal(err)
	}
	if c, _ := r.Lookup(LZ4); c != (ownCodec{}) {
		t.Errorf("lz4 is %T", c)
	}
	if _, err := NewRegistry(WithLevel(LZ4, 99)); !errors.Is(err, ErrLevel) {
		t.Errorf("level 99: %v", err)
	}
	if _, err := NewRegistry(WithCodec(None, ownCodec{})); !errors.Is(err, ErrUnknownCodec) {
		t.Errorf("replacing none: %v", err)
	}
}

// TestStandardsAreShared: what one producer's encoders have learned to hold, another
// need not make anew.
func TestStandardsAreShared(t *testing.T) {
	a, err := NewRegistry()
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewRegistry(WithLevel(Gzip, 1))
	if err != nil {
		t.Fatal(err)
	}
	for id := None; id <= Zstd; id++ {
		one, _ := a.Lookup(id)
		two, _ := b.Lookup(id)
		if (one == two) != (id != Gzip) {
			t.Errorf("%s is the same codec: %v", id, one == two)
		}
	}
}
