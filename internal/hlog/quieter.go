package hlog

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// quieterBy: what these libraries call an error (a ping not sent, a follower
	// not reached) is a warning to an operator, and so on down. What matters,
	// who comes and goes and who leads, our own packages log.
	quieterBy = slog.LevelError - slog.LevelWarn
	// linesMax in linesTime, or a node that is away, or a stranger with his
	// packets, could fill the log: raft writes ten lines a second for each group.
	linesMax  = 20
	linesTime = 10 * time.Second
)

// Quieter returns a logger for a library that talks too much and too loud: one
// level lower, and not more than so many lines, which all loggers made from it
// share. The next line says how many were dropped.
func Quieter(log *slog.Logger) *slog.Logger {
	return slog.New(quieter{Handler: log.Handler(), budget: &lineBudget{}})
}

// quieter is the handler of [Quieter].
type quieter struct {
	slog.Handler

	budget *lineBudget
}

type lineBudget struct {
	mu      sync.Mutex // guards what follows
	begin   time.Time
	lines   int
	dropped int
}

// Enabled implements slog.Handler.
func (q quieter) Enabled(ctx context.Context, level slog.Level) bool {
	return q.Handler.Enabled(ctx, level-quieterBy)
}

// Handle implements slog.Handler.
func (q quieter) Handle(ctx context.Context, r slog.Record) error {
	r.Level -= quieterBy
	ok, dropped := q.budget.spend(time.Now())
	if !ok {
		return nil
	}
	if dropped > 0 {
		r.AddAttrs(slog.Int("lines_dropped", dropped))
	}
	return q.Handler.Handle(ctx, r)
}

// spend says whether a line may go out, and how many did not before it.
func (b *lineBudget) spend(now time.Time) (ok bool, dropped int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.begin) > linesTime {
		b.begin, b.lines = now, 0
	}
	if b.lines >= linesMax {
		b.dropped++
		return false, 0
	}
	b.lines++
	dropped, b.dropped = b.dropped, 0
	return true, dropped
}

// WithAttrs implements slog.Handler.
func (q quieter) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quieter{Handler: q.Handler.WithAttrs(attrs), budget: q.budget}
}

// WithGroup implements slog.Handler.
func (q quieter) WithGroup(name string) slog.Handler {
	return quieter{Handler: q.Handler.WithGroup(name), budget: q.budget}
}
