package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"

	"carillon/library"
)

// errUsed is returned for an item that is not to be used by anything.
var errUsed = errors.New("it is used, see media uses")

type mediaUsesCmd struct {
	Item     item `arg:"" placeholder:"ACCOUNT/ID" help:"Item, second name or playlist, also a removed one."`
	ExitCode bool `help:"End with 1 if anything uses it."`
}

// Run lists what leads to the item.
func (c *mediaUsesCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	u, err := api.Uses(ctx, c.Item.account, c.Item.id)
	if err != nil {
		return failed("uses", c.Item, err)
	}
	if g.JSON {
		err = printJSON(tty.out, u)
	} else {
		err = printUses(tty, u)
	}
	if err == nil && c.ExitCode && len(u.Items) > 0 {
		return fmt.Errorf("%s: %w", c.Item, errUsed)
	}
	return err
}

func printUses(tty terminal, u library.Uses) error {
	table := tabwriter.NewWriter(tty.out, 0, 0, 2, ' ', 0)
	for _, use := range u.Items {
		text := use.Account + "/" + use.ID
		switch {
		case use.Kind == library.UsePrompt:
			text = fmt.Sprintf("prompt://%s/%s", text, use.Language)
		case use.Kind == library.UseFallback && use.Account == "":
			text = "play.fallback_sound"
		case use.Kind == library.UseFallback:
			text = "account " + use.Account
		}
		if use.By != "" {
			text += "\tby its name " + use.By
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\n", use.Kind, text) // errors show at Flush
	}
	if u.More {
		_, _ = fmt.Fprintf(table, "and more\n")
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}
