// Package chaos runs Troupe against three real Kafka brokers that are killed,
// paused, restarted, reassigned and cut off, and compares what was answered with
// what an independent consumer reads afterwards.
//
//	make chaos MINUTES=2 SEED=7
//
// A campaign has two tracks of faults, which run side by side: one harms brokers,
// the other the network between clients and brokers. Both follow a plan that is a
// function of the seed (plan.go). What is promised, and what is not, is in
// docs/chaos.md.
//
//	plan.go      which fault follows which, for a seed
//	campaign.go  cluster, load and tracks, from start to verdict
//	faults.go    how each fault is done
//	proxy.go     the network: it knows where a request begins and ends
//	load.go      the producers and what they send
//	history.go   what was sent, what was answered, what was read
//	checker.go   the verdict, a pure function of the history
//	recovery.go  recovery times and gaps, a pure function of the history
//	report.go    the table
package chaos
