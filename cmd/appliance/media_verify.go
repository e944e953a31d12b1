package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
)

// errNotWhole is returned when a copy is missing or damaged.
var errNotWhole = errors.New("not every copy is whole")

type mediaVerifyCmd struct {
	Items []item `arg:"" name:"item" placeholder:"ACCOUNT/ID" help:"Items to verify."`
}

// Run lets every replica hash its copy of the items.
func (c *mediaVerifyCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	whole := true
	for i, it := range c.Items {
		v, err := api.Verify(ctx, it.account, it.id)
		if err != nil {
			return failed("verify", it, err)
		}
		whole = whole && v.Whole
		if g.JSON {
			if err := printJSONLine(tty.out, v); err != nil {
				return err
			}
			continue
		}
		if i > 0 {
			_ = printf(tty.out, "\n")
		}
		if err := printf(tty.out, "%s  %s  revision %d  %s: %d of %d copies are whole\n", it, sizeText(v.Size),
			v.Revision, v.Group, v.OK, v.Wanted); err != nil {
			return err
		}
		table := tabwriter.NewWriter(tty.out, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintf(table, "item\t\t%s\n", v.SHA256)
		for _, r := range v.Replicas {
			_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%d ms\t%s\n", r.Node, r.State, orDash(r.SHA256), r.Took, r.Error)
		}
		if err := table.Flush(); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	if !whole {
		return errNotWhole
	}
	return nil
}
