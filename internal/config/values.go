package config

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// The values of this package are structs, never named strings or integers: a
// TOML library would fill those without asking UnmarshalText, and a bad value
// would get in.

// Sentinels of values, compared with errors.Is.
var (
	// ErrValue is returned when a text is not a value of its type.
	ErrValue = errors.New("bad value")
	// ErrInvalid is matched by the [ProblemsError] that Load and Validate return.
	ErrInvalid = errors.New("invalid configuration")
)

// Duration is a length of time, written with a unit: "250ms", "15m", "1h30m".
type Duration struct{ time.Duration }

// Seconds is n seconds.
func Seconds(n int64) Duration { return Duration{time.Duration(n) * time.Second} }

// Minutes is n minutes.
func Minutes(n int64) Duration { return Duration{time.Duration(n) * time.Minute} }

// UnmarshalText reads what MarshalText writes.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf(`%q is no duration (like "250ms", "15m" or "1h30m"): %w`, text, ErrValue)
	}
	d.Duration = v
	return nil
}

// MarshalText writes the duration without zero units: "15m", not "15m0s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String is the text form.
func (d Duration) String() string {
	s := d.Duration.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// ByteSize is a number of bytes, written with a binary unit: "64KiB",
// "512MiB", "2GiB", or as bare bytes.
type ByteSize struct{ n int64 }

// Bytes is n bytes as a ByteSize.
func Bytes(n int64) ByteSize { return ByteSize{n} }

// MiB is n mebibytes.
func MiB(n int64) ByteSize { return ByteSize{n << 20} }

// GiB is n gibibytes.
func GiB(n int64) ByteSize { return ByteSize{n << 30} }

// Int64 is the number of bytes.
func (b ByteSize) Int64() int64 { return b.n }

type sizeUnit struct {
	name  string
	shift uint
}

// sizeUnits are ordered from the largest, so that printing takes the first
// that divides, and with the bare B last, so that "MiB" is not read as "B".
func sizeUnits() []sizeUnit {
	return []sizeUnit{{"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}, {"B", 0}}
}

// UnmarshalText reads what MarshalText writes.
func (b *ByteSize) UnmarshalText(text []byte) error {
	s, shift := strings.TrimSpace(string(text)), uint(0)
	for _, u := range sizeUnits() {
		if digits, found := strings.CutSuffix(s, u.name); found {
			s, shift = strings.TrimSpace(digits), u.shift
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n<<shift>>shift != n {
		return fmt.Errorf(`%q is no size (like "64KiB", "512MiB" or "2GiB"): %w`, text, ErrValue)
	}
	b.n = n << shift
	return nil
}

// MarshalText writes the size in the largest unit that divides it.
func (b ByteSize) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// String is the text form.
func (b ByteSize) String() string {
	for _, u := range sizeUnits() {
		if b.n != 0 && b.n%(1<<u.shift) == 0 {
			return strconv.FormatInt(b.n>>u.shift, 10) + u.name
		}
	}
	return "0B"
}

// LogLevel is the least severity that is logged.
type LogLevel struct{ name string }

// LogAt is the level of that name.
func LogAt(name string) LogLevel { return LogLevel{name} }

// UnmarshalText reads debug, info, warn or error.
func (l *LogLevel) UnmarshalText(text []byte) error {
	return oneOf(&l.name, text, "debug", "info", "warn", "error")
}

// MarshalText writes the level's name.
func (l LogLevel) MarshalText() ([]byte, error) { return []byte(l.name), nil }

// String is the level's name.
func (l LogLevel) String() string { return l.name }

// Slog is the level as package slog knows it.
func (l LogLevel) Slog() slog.Level {
	var v slog.Level
	if err := v.UnmarshalText([]byte(l.name)); err != nil {
		return slog.LevelInfo // only of the zero value
	}
	return v
}

// LogFormat is how log lines are written.
type LogFormat struct{ name string }

// LogAs is the format of that name.
func LogAs(name string) LogFormat { return LogFormat{name} }

// UnmarshalText reads text or json.
func (f *LogFormat) UnmarshalText(text []byte) error { return oneOf(&f.name, text, "text", "json") }

// MarshalText writes the format's name.
func (f LogFormat) MarshalText() ([]byte, error) { return []byte(f.name), nil }

// String is the format's name.
func (f LogFormat) String() string { return f.name }

func oneOf(dst *string, text []byte, names ...string) error {
	for _, name := range names {
		if string(text) == name {
			*dst = name
			return nil
		}
	}
	return fmt.Errorf("%q is none of %s: %w", text, strings.Join(names, ", "), ErrValue)
}
