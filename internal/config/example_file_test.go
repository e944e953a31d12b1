package config_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"

	"carillon/internal/config"
)

const examplePath = "../../config.example.toml"

// Goal: the example is a true manual. Method: it loads, it equals the
// defaults, and it names every key with its variable right above.
func TestExampleFile(t *testing.T) {
	loaded, err := config.Load(config.Source{File: examplePath})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(config.Default(), loaded.Config, compare(), emptyIsNil()); diff != "" {
		t.Error(diff)
	}
	text, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	section, variable := "", ""
	var named []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "["):
			section = strings.Trim(line, "[]")
		case strings.HasPrefix(line, "# CARILLON_"):
			variable = strings.TrimPrefix(line, "# ")
		default:
			if m := regexp.MustCompile(`^([a-z_]+) +?=`).FindStringSubmatch(line); m != nil {
				key := section + "." + m[1]
				named = append(named, key)
				if variable != config.EnvName(key) {
					t.Errorf("%s: the variable above it is %q", key, variable)
				}
			}
		}
	}
	var keys []string
	for _, key := range config.Keys() {
		keys = append(keys, key.Name)
	}
	slices.Sort(keys)
	slices.Sort(named)
	if diff := cmp.Diff(keys, named); diff != "" {
		t.Errorf("keys (-Config +example): %s", diff)
	}
}

// emptyIsNil treats the example's [] as not set.
func emptyIsNil() cmp.Option {
	return cmp.Options{
		cmp.Transformer("addrs", func(v []config.Addr) int { return len(v) }),
		cmp.Transformer("secrets", func(v []config.Secret) int { return len(v) }),
		cmp.Transformer("logins", func(v []config.SourceLogin) int { return len(v) }),
		cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Ingest.Allow" },
			cmp.Transformer("networks", func(v []config.Network) int { return len(v) })),
	}
}

// encodings is the configuration in every form that it may be written.
func encodings(t *testing.T, c config.Config) map[string]string {
	t.Helper()
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	asTOML, err := toml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var text, js bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("config", "config", c, "secret", c.Cluster.Secret)
	slog.New(slog.NewJSONHandler(&js, nil)).Info("config", "config", c, "secret", c.Cluster.Secret)
	return map[string]string{
		"json": string(asJSON), "toml": string(asTOML), "text log": text.String(), "json log": js.String(),
	}
}
