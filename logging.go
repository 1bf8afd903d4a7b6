package troupe

import (
	"context"
	"log/slog"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/rs/zerolog"
)

// loggerFactory sends protoactor's own log to ours. Its INFO lines are about
// every restart of a connection, which is daily business here.
func loggerFactory(log zerolog.Logger) func(*actor.ActorSystem) *slog.Logger {
	return func(system *actor.ActorSystem) *slog.Logger {
		return slog.New(&slogHandler{log: log.With().Str("lib", "protoactor").Logger()})
	}
}

// slogHandler writes slog records through zerolog, one level lower.
type slogHandler struct {
	log   zerolog.Logger
	group string
}

func (h *slogHandler) level(l slog.Level) zerolog.Level {
	switch {
	case l >= slog.LevelError:
		return zerolog.ErrorLevel
	case l >= slog.LevelWarn:
		return zerolog.WarnLevel
	case l >= slog.LevelInfo:
		return zerolog.DebugLevel
	default:
		return zerolog.TraceLevel
	}
}

// Enabled implements slog.Handler.
func (h *slogHandler) Enabled(_ context.Context, l slog.Level) bool {
	return h.log.GetLevel() <= h.level(l)
}

// Handle implements slog.Handler.
func (h *slogHandler) Handle(_ context.Context, r slog.Record) error {
	event := h.log.WithLevel(h.level(r.Level))
	r.Attrs(func(a slog.Attr) bool {
		event = event.Interface(h.group+a.Key, a.Value.Any())
		return true
	})
	event.Msg(r.Message)
	return nil
}

// WithAttrs implements slog.Handler.
func (h *slogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := h.log.With()
	for _, a := range attrs {
		with = with.Interface(h.group+a.Key, a.Value.Any())
	}
	return &slogHandler{log: with.Logger(), group: h.group}
}

// WithGroup implements slog.Handler.
func (h *slogHandler) WithGroup(name string) slog.Handler {
	return &slogHandler{log: h.log, group: h.group + name + "."}
}
