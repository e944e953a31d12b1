package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// file reads the TOML file. Values go the same way as those of the
// environment, key by key, so that one run reports every unknown key and every
// bad value with its line; the strict mode of the library stops at the first.
func (l *loader) file(path string) {
	if path == "" {
		return
	}
	text, err := readFile(path)
	if err != nil {
		l.problem("", "", "configuration file: "+err.Error())
		return
	}
	l.document(path, text)
}

func (l *loader) document(name string, text []byte) {
	var tree map[string]any
	if err := toml.Unmarshal(text, &tree); err != nil {
		where := name
		if decode, ok := errors.AsType[*toml.DecodeError](err); ok {
			line, column := decode.Position()
			where = fmt.Sprintf("%s:%d:%d", name, line, column)
		}
		l.problem(where, "", strings.TrimPrefix(err.Error(), "toml: "))
		return
	}
	lines := keyLines(text)
	for _, section := range ordered(tree, "", lines) {
		table, ok := tree[section].(map[string]any)
		if !ok {
			l.problem(at(name, lines[section]), section, "unknown key"+l.suggest(section))
			continue
		}
		if !l.hasSection(section) {
			l.problem(at(name, lines[section]), section, "unknown section"+l.suggest(section))
			continue
		}
		for _, key := range ordered(table, section+".", lines) {
			l.apply(at(name, lines[section+"."+key]), section+"."+key, func(s setting) error {
				return s.setTOML(table[key])
			})
		}
	}
}

func (l *loader) hasSection(name string) bool {
	return slices.ContainsFunc(l.config.settings(), func(s setting) bool {
		return strings.HasPrefix(s.key, name+".")
	})
}

// ordered lists the keys of a table as they stand in the file.
func ordered(table map[string]any, prefix string, lines map[string]int) []string {
	keys := make([]string, 0, len(table))
	for key := range table {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int {
		if d := lines[prefix+a] - lines[prefix+b]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return keys
}

func at(name string, line int) string {
	if line == 0 {
		return name
	}
	return fmt.Sprintf("%s:%d", name, line)
}

// keyLines finds the first line of each key and table of a document that is
// known to be well formed.
func keyLines(text []byte) map[string]int {
	lines := map[string]int{}
	note := func(path string, line int) {
		if lines[path] == 0 {
			lines[path] = line
		}
	}
	var p unstable.Parser
	p.Reset(text)
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind == unstable.Table || e.Kind == unstable.ArrayTable {
			table = ""
		}
		path, it := table, e.Key()
		for it.Next() {
			if path != "" {
				path += "."
			}
			path += string(it.Node().Data)
			note(path, p.Shape(it.Node().Raw).Start.Line)
		}
		if e.Kind == unstable.Table || e.Kind == unstable.ArrayTable {
			table = path
		}
	}
	return lines
}

// suggest names the key that was probably meant, or nothing.
func (l *loader) suggest(key string) string {
	best, bestDistance := "", len(key)/3+1 // beyond a third it is another word
	consider := func(candidate string) {
		if d := distance(key, candidate); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	for _, s := range l.config.settings() {
		section, _, _ := strings.Cut(s.key, ".")
		if strings.Contains(key, ".") {
			consider(s.key)
		} else {
			consider(section)
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", %q is meant?", best)
}

// distance is Levenshtein's, over bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
