package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

// TestTheServiceKeepsItsOrders runs the service under many seeds.
func TestTheServiceKeepsItsOrders(t *testing.T) {
	hashes := make(map[uint64]bool)
	for seed := uint64(1); seed <= 20; seed++ {
		r, err := simulate(seed, 200, nil)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if len(r.wrong) > 0 {
			t.Errorf("seed %d: %v", seed, r.wrong)
		}
		if r.service.failed == 0 {
			t.Errorf("seed %d: nothing failed in the outage", seed)
		}
		hashes[r.hash] = true
	}
	if len(hashes) != 20 {
		t.Errorf("%d hashes for 20 seeds", len(hashes))
	}
}

// TestTheSameSeedTwice also runs what main runs.
func TestTheSameSeedTwice(t *testing.T) {
	var one, two bytes.Buffer
	if err := run(&one, 7, 100, nil); err != nil {
		t.Fatal(err)
	}
	if err := run(&two, 7, 100, io.Discard); err != nil {
		t.Fatal(err)
	}
	if one.String() != two.String() || !strings.Contains(one.String(), "orders") {
		t.Errorf("two runs of one seed:\n%s\n%s", &one, &two)
	}
}

// TestItWouldSee gives the check what it is there for.
func TestItWouldSee(t *testing.T) {
	doubtful := map[string]bool{"orders/2": true}
	if wrong := differences("orders", map[int]int{0: 1, 1: 1, 2: 2}, doubtful, 3); len(wrong) != 0 {
		t.Errorf("all is well, and it says %v", wrong)
	}
	if wrong := differences("orders", map[int]int{0: 2, 2: 2}, doubtful, 3); len(wrong) != 2 {
		t.Errorf("one is lost and one stands twice, and it says %v", wrong)
	}
}
