package hlog

import (
	"bytes"
	"context"
	"log"
	"log/slog"
)

// Std returns a standard logger for libraries that want one and put the level
// in brackets before the text, as memberlist does.
func Std(to *slog.Logger) *log.Logger { //nolint:forbidigo // it is what we adapt
	return log.New(stdWriter{to}, "", 0) //nolint:forbidigo // it is what we adapt
}

// stdWriter takes one line at each Write, as log.Logger promises.
type stdWriter struct{ log *slog.Logger }

// Write implements io.Writer.
func (w stdWriter) Write(line []byte) (int, error) {
	level, text := bracketLevel(bytes.TrimSpace(line))
	ctx := context.Background()
	if w.log.Enabled(ctx, level) {
		w.log.Log(ctx, level, "library", "text", string(text))
	}
	return len(line), nil
}

// bracketLevel cuts "[WARN] " off the line; what has no level is Info.
func bracketLevel(line []byte) (slog.Level, []byte) {
	tag, rest, found := bytes.Cut(line, []byte("]"))
	if !found || len(tag) == 0 || tag[0] != '[' {
		return slog.LevelInfo, line
	}
	rest = bytes.TrimSpace(rest)
	switch string(tag[1:]) {
	case "TRACE":
		return levelTrace, rest
	case "DEBUG":
		return slog.LevelDebug, rest
	case "INFO":
		return slog.LevelInfo, rest
	case "WARN":
		return slog.LevelWarn, rest
	case "ERR", "ERROR":
		return slog.LevelError, rest
	default:
		return slog.LevelInfo, line
	}
}
