//go:build !peers

package main

import (
	"context"
	"errors"
)

// The peers are in a binary of their own, so that what their packages keep in
// memory is not counted for Troupe and franz-go.
var errNoPeers = errors.New("not built: build the driver with -tags peers")

func newSarama(context.Context, Settings, *tally) (client, error)    { return nil, errNoPeers }
func newSegment(context.Context, Settings, *tally) (client, error)   { return nil, errNoPeers }
func newConfluent(context.Context, Settings, *tally) (client, error) { return nil, errNoPeers }
