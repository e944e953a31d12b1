// Package hlog adapts the loggers of the libraries below us to log/slog, so
// that one handler sees everything the process has to say. It knows the
// logger interfaces and nothing else of those libraries.
package hlog
