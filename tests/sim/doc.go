// Package sim runs the campaign of package simulation: many seeds, the seeds and
// plans that ever failed, and the proofs that the harness sees and replays.
//
//	make sim SEEDS=20000                                  # ends with one line
//	go run ./tests/sim/campaign -seeds=20000              # the same
//	go run ./tests/sim/replay -seed=7 -events=e.jsonl     # one seed, its events written
//	go run ./tests/sim/replay -plan=p.json -shrink        # a plan, made smaller
//
// A failing seed prints the second-last of these with its own numbers.
// testdata/corpus has plans of bugs that were mended, testdata/open of those that
// were not (at present there are none): the first must pass, the second must fail
// as they say.
package sim
