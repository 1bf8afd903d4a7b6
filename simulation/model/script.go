package model

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Step is one line of a conformance script: a few steps of a cluster and of raw
// Produce requests, with the answers that Kafka gives. The same scripts run
// against the model and against real brokers. testdata/README says what a line
// may hold.
type Step struct {
	Line   int
	Text   string
	Verb   string
	Args   []string
	option map[string]string
	Expect []string // what the reply must say; nil if the line has no "->"
	only   string   // the version it is for, empty for all
}

// Option returns the value of a name=value word, or of a bare word "true", or
// what it is by default.
func (s *Step) Option(name, byDefault string) string {
	if v, given := s.option[name]; given {
		return v
	}
	return byDefault
}

// Has says whether an option is given.
func (s *Step) Has(name string) bool { _, given := s.option[name]; return given }

// Number returns an option as a number.
func (s *Step) Number(name string, byDefault int64) (int64, error) {
	v, given := s.option[name]
	if !given {
		return byDefault, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("line %d: %s: %w", s.Line, name, err)
	}
	return n, nil
}

// On says whether the step is for a version.
func (s *Step) On(v Version) bool { return s.only == "" || s.only == v.String() }

// verbs are the steps and the number of their arguments.
var verbs = map[string]int{
	"brokers": 1, "topic": 1, "send": 1, "answer": 1, "stop": 1, "kill": 1, "start": 1, "pause": 1, "resume": 1,
	"restart": 1, "lead": 2, "usurp": 2, "delete": 1, "trim": 2, "insync": 2, "fence": 1, "expire": 1, "clean": 1, "metadata": 1,
}

// ParseScript reads a script. Every line must be known.
func ParseScript(text string) ([]Step, error) {
	var steps []Step
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		s := Step{Line: i + 1, Text: line, option: map[string]string{}}
		if rest, tagged := strings.CutPrefix(line, "["); tagged {
			var closed bool
			if s.only, line, closed = strings.Cut(rest, "]"); !closed {
				return nil, fmt.Errorf("line %d: no ] in %q", s.Line, s.Text)
			}
		}
		does, expects, expected := strings.Cut(line, "->")
		if expected {
			if s.Expect = strings.Fields(expects); len(s.Expect) == 0 {
				return nil, fmt.Errorf("line %d: nothing is expected", s.Line)
			}
		}
		words := strings.Fields(does)
		if len(words) == 0 {
			return nil, fmt.Errorf("line %d: nothing to do", s.Line)
		}
		s.Verb = words[0]
		n, known := verbs[s.Verb]
		if !known || len(words) <= n {
			return nil, fmt.Errorf("line %d: cannot read %q", s.Line, s.Text)
		}
		s.Args = words[1 : n+1]
		for _, w := range words[n+1:] {
			name, value, valued := strings.Cut(w, "=")
			if !valued {
				value = "true"
			}
			s.option[name] = value
		}
		if answers := s.Verb == "answer" || s.Verb == "metadata" || (s.Verb == "send" && !s.Has("as")); answers != expected {
			return nil, fmt.Errorf("line %d: an answer is expected where none comes, or the other way round", s.Line)
		}
		steps = append(steps, s)
	}
	return steps, nil
}

// Reply is what a step of a script is answered with, as words that can be
// compared: the error code and the base offset, then name=value words for
//
//	time    of the log append: "-", "batch" (the batch's own) or "now"
//	start   the log start offset
//	errors  the indexes of the records that are to blame
//	leader  the leader hint with its epoch, and nodes whose addresses came along
//	end     where the leader's log ends after it
//
// A request with acks 0 is answered SENT or CLOSED, one for metadata with the codes
// of the topic and of its first partition, and that partition's leader.
type Reply []string

// Matches says whether the reply has every word that is expected.
func (r Reply) Matches(expected []string) bool {
	for _, w := range expected {
		if !slices.Contains(r, w) {
			return false
		}
	}
	return true
}

// NewReply puts a reply together.
func NewReply(code string, base int64, time string, start int64, errors []int32, leader, epoch int32, nodes []int32, end int64) Reply {
	return Reply{
		code, fmt.Sprint(base), "time=" + time, fmt.Sprintf("start=%d", start), "errors=" + commas(errors),
		fmt.Sprintf("leader=%d", leader), fmt.Sprintf("epoch=%d", epoch), "nodes=" + commas(nodes), fmt.Sprintf("end=%d", end),
	}
}

// NewMetadataReply puts the reply to a metadata step together.
func NewMetadataReply(topic, partition string, leader int32) Reply {
	return Reply{topic, "partition=" + partition, fmt.Sprintf("leader=%d", leader)}
}

func commas(numbers []int32) string {
	words := make([]string, len(numbers))
	for i, n := range numbers {
		words[i] = strconv.Itoa(int(n))
	}
	return strings.Join(words, ",")
}

// Target is a cluster that a script can be run on.
type Target interface {
	// Do does one step. The reply is nil for a step that has none.
	Do(s *Step) (Reply, error)
}

// RunScript does the steps of a version on all targets in lockstep and returns
// what is wrong: replies that are not the expected ones, and targets that differ.
func RunScript(steps []Step, v Version, targets ...Target) (problems []string) {
	for i := range steps {
		s := &steps[i]
		if !s.On(v) {
			continue
		}
		var first Reply
		for k, target := range targets {
			reply, err := target.Do(s)
			if err != nil {
				return append(problems, fmt.Sprintf("line %d: %s: %T: %v", s.Line, s.Text, target, err))
			}
			if !reply.Matches(s.Expect) {
				problems = append(problems, fmt.Sprintf("line %d: %s: %T answered %v", s.Line, s.Text, target, reply))
			}
			if k == 0 {
				first = reply
			} else if !slices.Equal(first, reply) {
				problems = append(problems, fmt.Sprintf("line %d: %s: %T answered %v, and %T %v", s.Line, s.Text, targets[0], first, target, reply))
			}
		}
	}
	return problems
}
