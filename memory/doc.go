// Package memory bounds what the producer holds: a byte budget for everything
// admitted and unanswered, shared fairly between leaders, and the pool of
// buffers that batches are encoded into.
//
// The budget is charged when a buffer is taken and credited when it comes back,
// never per record: an atomic operation for each record costs more than its
// encoding. It knows nothing of Kafka or of actors.
package memory
