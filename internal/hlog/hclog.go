package hlog

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"slices"

	"github.com/hashicorp/go-hclog"
)

// levelTrace lies below slog's lowest.
const levelTrace = slog.LevelDebug - 4

// HCLog returns a logger for hashicorp/raft and raft-wal. It costs one check
// when the level is off. The name goes into the attribute "module"; messages
// stay as they are, because these libraries keep them constant.
func HCLog(to *slog.Logger, name string) hclog.Logger {
	return &hcLogger{base: to, log: to.With("module", name), name: name}
}

type hcLogger struct {
	base    *slog.Logger // without the name
	log     *slog.Logger
	name    string
	implied []any
}

var _ hclog.Logger = (*hcLogger)(nil)

func slogLevel(level hclog.Level) slog.Level {
	switch level {
	case hclog.Trace:
		return levelTrace
	case hclog.Debug:
		return slog.LevelDebug
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Error, hclog.Off:
		return slog.LevelError
	case hclog.NoLevel, hclog.Info:
		return slog.LevelInfo
	default:
		return slog.LevelInfo
	}
}

// Log implements hclog.Logger.
func (l *hcLogger) Log(level hclog.Level, msg string, args ...any) {
	if level == hclog.Off {
		return
	}
	at, ctx := slogLevel(level), context.Background()
	if l.log.Enabled(ctx, at) {
		l.log.Log(ctx, at, msg, plain(args)...) //nolint:sloglint // the message is the library's
	}
}

// plain turns hclog's formatting values into text; slog knows only Go's.
// The caller's slice is not changed.
func plain(args []any) []any {
	copied := false
	for i, a := range args {
		f, ok := a.(hclog.Format)
		if !ok {
			continue
		}
		if !copied {
			args, copied = slices.Clone(args), true
		}
		args[i] = formatted(f)
	}
	return args
}

func formatted(f hclog.Format) string {
	if len(f) == 0 {
		return ""
	}
	format, ok := f[0].(string)
	if !ok {
		return fmt.Sprint([]any(f)...)
	}
	return fmt.Sprintf(format, f[1:]...)
}

// Trace implements hclog.Logger.
func (l *hcLogger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }

// Debug implements hclog.Logger.
func (l *hcLogger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }

// Info implements hclog.Logger.
func (l *hcLogger) Info(msg string, args ...any) { l.Log(hclog.Info, msg, args...) }

// Warn implements hclog.Logger.
func (l *hcLogger) Warn(msg string, args ...any) { l.Log(hclog.Warn, msg, args...) }

// Error implements hclog.Logger.
func (l *hcLogger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *hcLogger) enabled(level slog.Level) bool {
	return l.log.Enabled(context.Background(), level)
}

// IsTrace implements hclog.Logger.
func (l *hcLogger) IsTrace() bool { return l.enabled(levelTrace) }

// IsDebug implements hclog.Logger.
func (l *hcLogger) IsDebug() bool { return l.enabled(slog.LevelDebug) }

// IsInfo implements hclog.Logger.
func (l *hcLogger) IsInfo() bool { return l.enabled(slog.LevelInfo) }

// IsWarn implements hclog.Logger.
func (l *hcLogger) IsWarn() bool { return l.enabled(slog.LevelWarn) }

// IsError implements hclog.Logger.
func (l *hcLogger) IsError() bool { return l.enabled(slog.LevelError) }

// ImpliedArgs implements hclog.Logger.
func (l *hcLogger) ImpliedArgs() []any { return slices.Clone(l.implied) }

// With implements hclog.Logger.
func (l *hcLogger) With(args ...any) hclog.Logger {
	args = plain(args)
	return &hcLogger{
		base: l.base.With(args...), log: l.log.With(args...), name: l.name,
		implied: slices.Concat(l.implied, args),
	}
}

// Name implements hclog.Logger.
func (l *hcLogger) Name() string { return l.name }

// Named implements hclog.Logger.
func (l *hcLogger) Named(name string) hclog.Logger {
	if l.name != "" {
		name = l.name + "." + name
	}
	return l.ResetNamed(name)
}

// ResetNamed implements hclog.Logger.
func (l *hcLogger) ResetNamed(name string) hclog.Logger {
	return &hcLogger{base: l.base, log: l.base.With("module", name), name: name, implied: l.implied}
}

// SetLevel implements hclog.Logger. The level is the handler's business.
func (l *hcLogger) SetLevel(hclog.Level) {}

// GetLevel implements hclog.Logger.
func (l *hcLogger) GetLevel() hclog.Level {
	for _, level := range []hclog.Level{hclog.Trace, hclog.Debug, hclog.Info, hclog.Warn} {
		if l.enabled(slogLevel(level)) {
			return level
		}
	}
	return hclog.Error
}

// StandardLogger implements hclog.Logger.
func (l *hcLogger) StandardLogger(
	*hclog.StandardLoggerOptions,
) *log.Logger { //nolint:forbidigo // it is what we adapt
	return Std(l.log)
}

// StandardWriter implements hclog.Logger.
func (l *hcLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return stdWriter{l.log} }
