// Package troupe is a Kafka producer built as a troupe of actors.
package troupe
