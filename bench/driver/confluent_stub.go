//go:build peers && !cgo

package main

import (
	"context"
	"errors"
)

func newConfluent(context.Context, Settings, *tally) (client, error) {
	return nil, errors.New("not built: confluent-kafka-go needs cgo")
}
