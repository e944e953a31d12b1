package config

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	// Where names the place: "carillon.toml:12", an environment variable, a
	// flag, or nothing when the place is not known.
	Where string `json:"where,omitempty"`
	// Key is the setting: "cluster.expect". Empty if it concerns several.
	Key  string `json:"key,omitempty"`
	Text string `json:"text"`
}

// String is "where: key: text".
func (p Problem) String() string {
	var parts []string
	for _, part := range []string{p.Where, p.Key, p.Text} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": ")
}

// ProblemsError is all that is wrong with a configuration, as one error. It
// matches ErrInvalid.
type ProblemsError []Problem

// Error lists the problems, one a line.
func (p ProblemsError) Error() string {
	if len(p) == 1 {
		return ErrInvalid.Error() + ": " + p[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d problems:", ErrInvalid, len(p))
	for _, problem := range p {
		b.WriteString("\n  ")
		b.WriteString(problem.String())
	}
	return b.String()
}

// Is makes errors.Is(err, ErrInvalid) true.
func (p ProblemsError) Is(target error) bool { return target == ErrInvalid }

// err is nil without problems; a nil ProblemsError in an error would not be nil.
func (p ProblemsError) err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// place fills in where each key was set, for those problems that do not know.
func (p ProblemsError) place(where map[string]string) ProblemsError {
	placed := slices.Clone(p)
	for i := range placed {
		if placed[i].Where == "" {
			placed[i].Where = where[placed[i].Key]
		}
	}
	return placed
}
