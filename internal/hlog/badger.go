package hlog

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/dgraph-io/badger/v4"
)

// Badger returns a logger for Badger's options. Badger reports its daily work
// (compactions, flushes) at Info; here that is Debug, and only what it calls
// a warning or an error reaches an operator.
func Badger(log *slog.Logger) badger.Logger { return badgerLogger{log} }

type badgerLogger struct{ log *slog.Logger }

func (l badgerLogger) Errorf(format string, v ...any)   { l.print(slog.LevelError, format, v) }
func (l badgerLogger) Warningf(format string, v ...any) { l.print(slog.LevelWarn, format, v) }
func (l badgerLogger) Infof(format string, v ...any)    { l.print(slog.LevelDebug, format, v) }
func (l badgerLogger) Debugf(format string, v ...any)   { l.print(slog.LevelDebug-1, format, v) }

func (l badgerLogger) print(level slog.Level, format string, v []any) {
	ctx := context.Background()
	if !l.log.Enabled(ctx, level) {
		return // formatting costs more than the check
	}
	l.log.Log(ctx, level, "badger", "text", strings.TrimSpace(fmt.Sprintf(format, v...)))
}
