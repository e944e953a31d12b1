package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// fileBytesMax bounds a configuration, token or secret file, so that a wrong
// path does not fill the memory. The example, all comments included, has 12 KB.
const fileBytesMax = 1 << 20

// Source is where settings come from, besides the defaults.
type Source struct {
	// File is the path of the TOML file, "" for none.
	File string
	// Environ is the environment as os.Environ returns it.
	Environ []string
	// Set are KEY=VALUE settings of the command line.
	Set []string
	// OtherEnv names variables with our prefix that are not settings, so that
	// they are not reported as unknown.
	OtherEnv []string
}

// Loaded is a configuration with what is worth telling about it.
type Loaded struct {
	Config Config
	// Warnings are things that are probably mistakes but no errors.
	Warnings []string
}

// Load reads the settings in the order defaults, file, environment, command
// line, then the secret and token files they name, and validates the result.
// All that is wrong comes back at once, as ProblemsError.
func Load(src Source) (Loaded, error) {
	l := loader{config: Default(), where: map[string]string{}}
	l.file(src.File)
	l.environment(src.Environ, src.OtherEnv)
	l.commandLine(src.Set)
	l.secretFiles()
	if invalid, ok := errors.AsType[ProblemsError](l.config.Validate()); ok {
		l.problems = append(l.problems, l.unlessReported(invalid.place(l.where))...)
	}
	return Loaded{Config: l.config, Warnings: l.warnings}, l.problems.err()
}

// loader is a configuration being put together.
type loader struct {
	config   Config
	where    map[string]string // key → the place that set it last
	problems ProblemsError
	warnings []string
}

func (l *loader) problem(where, key, text string) {
	l.problems = append(l.problems, Problem{Where: where, Key: key, Text: text})
}

// apply sets a key and remembers where that was.
func (l *loader) apply(where, key string, set func(setting) error) {
	s, ok := l.config.setting(key)
	if !ok {
		l.problem(where, key, "unknown key"+l.suggest(key))
		return
	}
	l.where[key] = where
	if err := set(s); err != nil {
		l.problem(where, key, reason(err))
	}
}

// reason is the error's text without the sentinel, which says nothing new.
func reason(err error) string {
	return strings.TrimSuffix(strings.TrimSuffix(err.Error(), ErrValue.Error()), ": ")
}

func (l *loader) environment(environ, others []string) {
	keys := map[string]string{}
	for _, k := range Keys() {
		keys[k.Env] = k.Name
	}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(others, name) {
			continue
		}
		key, ok := keys[name]
		if !ok {
			// Not an error: Kubernetes and Docker links set CARILLON_PORT and
			// the like beside a service of that name.
			l.warnings = append(l.warnings, "environment variable "+name+" is no setting")
			continue
		}
		l.apply(name, key, func(s setting) error { return s.setText(value) })
	}
}

func (l *loader) commandLine(set []string) {
	for _, entry := range set {
		key, value, ok := strings.Cut(entry, "=")
		if !ok {
			l.problem("--set", entry, "is not KEY=VALUE")
			continue
		}
		l.apply("--set", key, func(s setting) error { return s.setText(value) })
	}
}

// secretFiles reads cluster.secret_file and api.tokens_file.
func (l *loader) secretFiles() {
	c := &l.config
	if path := c.Cluster.SecretFile; path != "" {
		if !c.Cluster.Secret.IsZero() {
			l.problem(l.where["cluster.secret_file"], "cluster.secret_file",
				"cluster.secret is set too; one of both must go")
		}
		text, err := readFile(path)
		if err != nil {
			l.problem(l.where["cluster.secret_file"], "cluster.secret_file", err.Error())
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			switch {
			case line == "" || strings.HasPrefix(line, "#"):
			case c.Cluster.Secret.IsZero():
				c.Cluster.Secret = NewSecret(line)
			default:
				c.Cluster.AcceptSecrets = append(c.Cluster.AcceptSecrets, NewSecret(line))
			}
		}
	}
	if path := c.API.TokensFile; path != "" {
		text, err := readFile(path)
		if err != nil {
			l.problem(l.where["api.tokens_file"], "api.tokens_file", err.Error())
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				c.API.Tokens = append(c.API.Tokens, NewSecret(line))
			}
		}
	}
}

// unlessReported drops what Validate says of keys whose value could not be
// read: that is a consequence, not a second mistake.
func (l *loader) unlessReported(invalid ProblemsError) ProblemsError {
	return slices.DeleteFunc(invalid, func(p Problem) bool {
		return p.Key != "" && slices.ContainsFunc(l.problems, func(q Problem) bool { return q.Key == p.Key })
	})
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err //nolint:wrapcheck // it says what was opened
	}
	defer func() { _ = f.Close() }() // only read from
	text, err := io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	if len(text) > fileBytesMax {
		return nil, fmt.Errorf("%s has more than %d bytes: %w", path, fileBytesMax, ErrValue)
	}
	return text, nil
}
