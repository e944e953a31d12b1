package main

import (
	"io"
	"log/slog"

	"carillon/internal/config"
)

// newLogger is the root of all loggers of a node.
func newLogger(cfg config.Node, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.LogLevel.Slog()}
	if cfg.LogFormat == config.LogAs("json") {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
