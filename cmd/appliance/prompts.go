package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"carillon/library"
)

// promptsCmd groups the commands on prompts.
type promptsCmd struct {
	Import    promptsImportCmd    `cmd:"" help:"Store a directory of prompts; what is there already is left alone."` //nolint:lll // a tag is one line
	Ls        promptsLsCmd        `cmd:"" help:"List prompts with their languages."`
	Missing   promptsMissingCmd   `cmd:"" help:"List the prompts that a language lacks."`
	Languages promptsLanguagesCmd `cmd:"" help:"Count prompts by language."`
}

// errMissing says that what was looked for is incomplete: a script that asks
// whether anything is missing sees it by the exit code.
var errMissing = errors.New("prompts are missing")

type promptsLsCmd struct {
	Account  string `help:"Account." default:"system"`
	Prefix   string `help:"Only prompt ids that begin so."`
	Language string `help:"Only prompts that are there in this language."`
}

// Run lists the prompts.
func (c *promptsLsCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	_, err := listPrompts(ctx, g, tty, c.Account, library.PromptQuery{Prefix: c.Prefix, Language: c.Language})
	return err
}

type promptsMissingCmd struct {
	Missing  string `arg:"" name:"language" help:"Language that is looked at, like fr-ca."`
	Account  string `help:"Account." default:"system"`
	Than     string `help:"Only compare with this language." placeholder:"LANGUAGE"`
	Prefix   string `help:"Only prompt ids that begin so."`
	ExitCode bool   `help:"End with 1 if any is missing."`
}

// Run lists what is missing.
func (c *promptsMissingCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	n, err := listPrompts(ctx, g, tty, c.Account, library.PromptQuery{
		Prefix: c.Prefix, Language: c.Than, Missing: c.Missing,
	})
	if err == nil && n > 0 && c.ExitCode {
		return fmt.Errorf("%d in %s: %w", n, c.Missing, errMissing)
	}
	return err
}

// listPrompts prints prompts and says how many.
func listPrompts(
	ctx context.Context, g *globals, tty terminal, account string, q library.PromptQuery,
) (int, error) {
	api, err := g.client()
	if err != nil {
		return 0, err
	}
	q.Limit = library.PageLimitMax
	all := []library.Prompt{}
	for p, err := range api.Prompts(ctx, account, q) {
		if err != nil {
			return 0, fmt.Errorf("prompts of %s: %w", account, err)
		}
		all = append(all, p)
	}
	if g.JSON {
		return len(all), printJSON(tty.out, map[string]any{"items": all})
	}
	table := tabwriter.NewWriter(tty.out, 0, 0, 2, ' ', 0) // its errors show at Flush
	for _, p := range all {
		languages := slices.Sorted(maps.Keys(p.Languages))
		_, _ = fmt.Fprintf(table, "%s\t%s\n", p.Prompt, strings.Join(languages, " "))
	}
	if err := table.Flush(); err != nil {
		return 0, fmt.Errorf("print: %w", err)
	}
	return len(all), nil
}

type promptsLanguagesCmd struct {
	Account string `help:"Account." default:"system"`
}

// Run counts.
func (c *promptsLanguagesCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	languages, err := api.Languages(ctx, c.Account)
	if err != nil {
		return fmt.Errorf("languages of %s: %w", c.Account, err)
	}
	if g.JSON {
		return printJSON(tty.out, map[string]any{"items": languages})
	}
	table := tabwriter.NewWriter(tty.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "LANGUAGE\tPROMPTS\tMISSING") // errors show at Flush
	for _, l := range languages {
		_, _ = fmt.Fprintf(table, "%s\t%d\t%d\n", l.Language, l.Prompts, l.Missing)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}
