package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/pelletier/go-toml/v2"

	"carillon/internal/config"
)

// configFlags are shared by the commands that read a node's configuration.
type configFlags struct {
	Config string   `help:"Configuration file; see config.example.toml." type:"path" env:"CARILLON_CONFIG"`
	Set    []string `help:"Set one key, over all else; may be repeated." placeholder:"KEY=VALUE" sep:"none"`
}

func (f *configFlags) load() (config.Loaded, error) {
	return config.Load(config.Source{ //nolint:wrapcheck // lists the problems with their places
		File: f.Config, Environ: os.Environ(), Set: f.Set, OtherEnv: clientEnv(),
	})
}

// configCmd groups the commands on configurations.
type configCmd struct {
	Check configCheckCmd `cmd:"" help:"Report everything that is wrong with a configuration."`
}

type configCheckCmd struct {
	configFlags

	Print bool `help:"Print the resulting configuration, secrets as ***."`
}

// Run checks file and environment as serve would.
func (c *configCheckCmd) Run(g *globals, tty terminal) error {
	loaded, err := c.load()
	problems, invalid := errors.AsType[config.ProblemsError](err)
	if err != nil && !invalid {
		return err
	}
	if g.JSON {
		answer := struct {
			OK       bool             `json:"ok"`
			Problems []config.Problem `json:"problems"`
			Warnings []string         `json:"warnings"`
		}{!invalid, append([]config.Problem{}, problems...), append([]string{}, loaded.Warnings...)}
		return errors.Join(printJSON(tty.out, answer), err)
	}
	for _, w := range loaded.Warnings {
		if err := printf(tty.err, "warning: %s\n", w); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	if c.Print {
		text, err := toml.Marshal(loaded.Config)
		if err != nil {
			return fmt.Errorf("print configuration: %w", err)
		}
		return printf(tty.out, "%s", text)
	}
	return printf(tty.out, "configuration is fine\n")
}
