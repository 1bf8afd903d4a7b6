// Command fetch brings the jars of every Kafka version that the tests use onto
// this machine and prints the folders they are in.
package main

import (
	"fmt"
	"os"

	"github.com/troupe-kafka/troupe/tests/kafkacluster"
)

func main() {
	if err := kafkacluster.Available(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, version := range kafkacluster.Versions() {
		dir, err := kafkacluster.Jars(version)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(dir)
	}
}
