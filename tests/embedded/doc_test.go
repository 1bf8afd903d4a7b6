package embedded_test

// Where the rows of the two checklists are.
//
// A subtest's name begins with its row: "kafkajs: …" for the producer's specs of
// KafkaJS, "kafkajs fault n: …" for what was found wrong in KafkaJS itself,
// "java nn: …" for the lists of Java's unit tests. go test -run '/java_05'
// runs one of them. The options' rows (java 49, the options half of java 05 and 06)
// are tests of the root package.
//
// Rows of KafkaJS that have no test, and why:
//
//   - "supports SSL", "SASL PLAIN", "SCRAM 256", "SCRAM 512", "OAUTHBEARER" and the
//     matching "wrong credentials" rows: the producer has neither TLS nor SASL of
//     its own yet; WithDialer is where a caller puts TLS.
//   - "on() with an invalid event name throws", "emits connection events", "request
//     event", "request timeout event", "request queue size event": there is no
//     event emitter. What happens is in the log and in each Delivery; the request
//     timeout itself is TestRequestTimeout.
//   - everything under "transactions": there are no transactions. This covers flow
//     commit and flow abort, sending outside a transaction, sendOffsets, empty
//     transactions, addPartitionsToTransaction, concurrentTransaction, and the
//     transactional half of eosManager.spec.js.
//   - eosManager.spec.js, "sequence wraps" and "reset by re-init": 2³¹ records are
//     too many to send; the accumulator's and the sequencer's own tests step there.
//   - compression.spec.js, "snappy, lz4, zstd unconfigured": all are built in; the
//     rows became "… is configured, and its type stands in the batch".
//   - partitioners: the murmur2 vectors, numeric keys and randomBytes are tested
//     where they are implemented; numeric keys and randomBytes do not exist in Go.
//   - "a value of undefined": Go has none; the row tests what a message can have
//     wrong instead.
//   - "send works without connect()" in its 1.11 form is what every test here does.
//   - "when acks=0, returns immediately with []": a result says which partition a
//     message went to, so there is one, with offset −1.
//
// Rows of Java that have only part of a test here:
//
//   - java 10: the weights are our own. The choice draws two partitions and takes
//     the one with the shorter queue, in steps of 64 KiB: for queues of 0, 3 and 1
//     steps 5, 1 and 3 times of 9, where Java's weights give 4, 1 and 3 of 8. What
//     went to a partition is counted in buffers, not in bytes of records.
//   - java 19: that a late answer does not split a batch; there is no split yet.
//   - java 24: the wrap at 2³¹ is a test of the accumulator's state.
//   - java 26: the broker's word on single records is not used; a batch with an
//     invalid record fails as a whole.
//   - java 28: there is no partial update for new topics only; a refresh asks for
//     every topic, and one at a time is under way.
//   - java 30: there are no metrics, of throttling or of a node's latency; the
//     pause is tested.
//   - java 33 to 48: transactions.
//   - java 51: the interceptor half; there are no interceptors.
//   - java 52: close(negative); a context cannot be negative.
