// Package kafkacluster starts real Apache Kafka for tests: one broker or
// three, of the newest 4.x or of 3.9, on loopback ports, from Maven artefacts.
// It needs a Java runtime of version 17 or later and, the first time, Maven;
// no container and no root. It is test support and no part of the producer.
//
//	func TestMain(m *testing.M) { os.Exit(kafkacluster.Run(m)) }
//
//	func TestSurvivesKill(t *testing.T) {
//		kafka := kafkacluster.Shared(t, kafkacluster.Config{Brokers: 3})
//		kafka.CreateTopic("orders", 6, 3, map[string]string{"min.insync.replicas": "2"})
//		// … produce to kafka.Seeds() …
//		kafka.Kill(kafka.LeaderOf("orders", 0))
//		// …
//		records := kafka.ConsumeAll("orders", 30*time.Second)
//		batches := kafka.DumpLogSegments("orders", 0)
//	}
//
// [Start] gives a test a cluster of its own, [Shared] one that all tests of a
// package use in turn (it is healed before each use: killed brokers come back,
// paused ones resume), [Launch] one without a test, for benchmarks.
//
// # What is checked with what
//
// [Cluster.ConsumeAll] reads with franz-go, and [Cluster.DumpLogSegments] with
// Kafka's own tool: neither shares code with the producer under test. Both, and
// everything else that the cluster itself asks of its brokers, use a listener
// of their own, as replication does. A proxy set by Config.Advertise therefore
// stands between the brokers and the clients under test only.
//
// # TLS and SASL
//
// [Config].Security opens listeners with TLS, with SASL and with both, for one
// broker or three:
//
//	kafka := kafkacluster.Start(t, kafkacluster.Config{Security: &kafkacluster.Security{SSLClientAuth: "required"}})
//	// mutual TLS: kafka.SeedsOf(kafkacluster.SSL), kafka.MutualTLS()
//	// a password over TLS: kafka.SeedsOf(kafkacluster.SASLSSL), kafka.TLS(),
//	// kafkacluster.DefaultUser, kafkacluster.DefaultPassword
//
// A broker tells a client the addresses of the listener that it was asked on.
// There are no ACLs: who is let in may do everything.
//
// # Where things are
//
// The jars are kept in os.UserCacheDir()/troupe-kafka/<version>, with a class
// data archive that makes the JVM start faster. Data and logs live in temporary
// folders and go with the test. Brokers die with the test process, however it
// ends (on Linux; elsewhere, a test process that is killed leaves them behind).
//
// Test packages that run side by side wait for each other (a file lock in the
// cache folder), so that two cores never carry two clusters of two packages.
//
// # Without Java
//
// [Require], which Start and Shared call, skips the test and says so in a line
// that starts with "SKIP (real Kafka):". With TROUPE_REQUIRE_KAFKA=1 in the
// environment it fails the test instead.
package kafkacluster
