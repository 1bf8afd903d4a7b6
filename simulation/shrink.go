package simulation

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/asynkron/protoactor-go/actor"
)

// maxShrinkRuns bounds how many runs a shrinking takes.
const maxShrinkRuns = 2000

// shrinker looks for the smallest plan that still fails in the same way.
type shrinker struct {
	broken func(Plan) bool
	best   Plan
	runs   int
}

// Shrink reduces a failing plan: first its faults, by delta debugging, then its
// callers and records, then the faults again, as long as a run of it still has a
// violation of the class. It returns the smallest plan that it found, which is
// the plan itself if that does not fail.
func Shrink(system *actor.ActorSystem, p Plan, class Class) Plan {
	s := &shrinker{best: p, broken: func(p Plan) bool {
		r := Run(system, Campaign{Plan: &p})
		return slices.ContainsFunc(r.Violations, func(v Violation) bool { return v.Class == class })
	}}
	if !s.shrink() {
		return p
	}
	r := Run(system, Campaign{Plan: &s.best})
	for _, v := range r.Violations {
		if v.Class == class {
			s.best.Found = v.String()
			break
		}
	}
	return s.best
}

// shrink makes best as small as it finds it, and reports whether it fails at all.
func (s *shrinker) shrink() bool {
	if !s.fails(s.best) {
		return false
	}
	for before := -1; before != s.size() && s.runs < maxShrinkRuns; {
		before = s.size()
		s.faults()
		s.callers()
		s.load()
		s.records()
		s.durations()
	}
	return true
}

func (s *shrinker) size() int { return len(s.best.Faults)*1000 + s.best.Records + len(s.best.Callers) }

// fails reports whether a run of the plan has the violation in question.
func (s *shrinker) fails(p Plan) bool {
	s.runs++
	return s.broken(p)
}

// try keeps a smaller plan if it fails.
func (s *shrinker) try(p Plan) bool {
	if s.runs >= maxShrinkRuns || !s.fails(p) {
		return false
	}
	s.best = p
	return true
}

// faults is ddmin: it leaves out ever smaller parts of the list.
func (s *shrinker) faults() {
	if p := s.best; len(p.Faults) > 0 {
		p.Faults = nil
		if s.try(p) {
			return
		}
	}
	for n := 2; len(s.best.Faults) > 0; {
		size := (len(s.best.Faults) + n - 1) / n
		smaller := false
		for at := 0; at < len(s.best.Faults); {
			p := s.best
			p.Faults = slices.Concat(p.Faults[:at], p.Faults[min(at+size, len(p.Faults)):])
			if s.try(p) {
				smaller = true
				continue
			}
			at += size
		}
		switch {
		case size == 1 && !smaller, s.runs >= maxShrinkRuns:
			return
		case size > 1:
			n *= 2
		}
	}
}

// callers leaves out whole kinds of callers.
func (s *shrinker) callers() {
	all := s.best.Callers
	if len(all) == 0 {
		all = callerNames[:]
	}
	for _, name := range all {
		now := s.best.Callers
		if len(now) == 0 {
			now = callerNames[:]
		}
		if len(now) == 1 {
			return
		}
		p := s.best
		p.Callers = slices.DeleteFunc(slices.Clone(now), func(n string) bool { return n == name })
		s.try(p)
	}
}

// load leaves out what callers do besides producing records to one topic.
func (s *shrinker) load() {
	for _, less := range []func(*Load){
		func(l *Load) { l.Mixed = false }, func(l *Load) { l.Second, l.SecondAt = false, 0 }, func(l *Load) { l.Unknown = false },
		func(l *Load) { l.LogAppendTime = false }, func(l *Load) { l.Stamped = false }, func(l *Load) { l.Inside = 0 },
		func(l *Load) { l.CloseAt = 0 }, func(l *Load) { l.Quiet = 0 },
	} {
		p := s.best
		if p.Settings.Load == nil {
			return
		}
		l := *p.Settings.Load
		if less(&l); !reflect.DeepEqual(&l, p.Settings.Load) {
			p.Settings.Load = &l
			s.try(p)
		}
	}
}

// records halves their number, then takes away less.
func (s *shrinker) records() {
	for less := s.best.Records / 2; less > 0; {
		p := s.best
		p.Records -= less
		if p.Records < 1 || !s.try(p) {
			less /= 2
			continue
		}
		less = min(less, s.best.Records/2)
	}
}

// durations makes faults shorter, so that what is left to read is little.
func (s *shrinker) durations() {
	for i := range s.best.Faults {
		if s.best.Faults[i].For == 0 {
			continue
		}
		p := s.best
		p.Faults = slices.Clone(p.Faults)
		p.Faults[i].For = 0
		s.try(p)
	}
}

// String says what a plan is.
func (p *Plan) String() string {
	return fmt.Sprintf("seed %d, %d records, %d faults", p.Seed, p.Records, len(p.Faults))
}
