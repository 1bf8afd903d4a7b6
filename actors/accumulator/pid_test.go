package accumulator

import "github.com/asynkron/protoactor-go/actor"

func pidOf(id string) *actor.PID { return actor.NewPID("nowhere", id) }
