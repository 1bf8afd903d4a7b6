//go:build !troupe

package main

import (
	"context"
	"errors"
)

func newTroupe(context.Context, Settings, *tally) (client, error) {
	return nil, errors.New("not built: build the driver with -tags troupe")
}
