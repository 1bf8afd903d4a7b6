//go:build troupe || peers

package main

import (
	"slices"
	"strconv"
	"time"
)

// pairs returns name = value, sorted.
func pairs(m map[string]string) []string {
	var list []string
	for name, value := range m {
		if name != "bootstrap.servers" { // of no interest, and another one in every run
			list = append(list, name+" = "+value)
		}
	}
	slices.Sort(list)
	return list
}

func milliseconds(d time.Duration) string {
	return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', -1, 64)
}
