//go:build !troupe

package main

import (
	"context"
	"errors"
)

var errNoTroupe = errors.New("not built: build the driver with -tags troupe")

func newTroupe(context.Context, Settings, *tally) (client, error)       { return nil, errNoTroupe }
func newTroupeActor(context.Context, Settings, *tally) (client, error)  { return nil, errNoTroupe }
func newTroupeShared(context.Context, Settings, *tally) (client, error) { return nil, errNoTroupe }
