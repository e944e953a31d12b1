package main

import (
	"context"
	"errors"
)

type mediaRmCmd struct {
	Items []item `arg:"" placeholder:"ACCOUNT/ID" help:"Items to remove."`
	Hard  bool   `help:"For good: they cannot be brought back, nor what was removed under their names before."`

	Unused bool `help:"Leave those alone that something uses; see media uses."`
}

// Run removes all items that it can and reports the others.
func (c *mediaRmCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	var errs []error
	removed := []string{}
	for _, i := range c.Items {
		if c.Unused {
			u, err := api.Uses(ctx, i.account, i.id)
			if err == nil && len(u.Items) > 0 {
				err = errUsed
			}
			if err != nil {
				errs = append(errs, failed("rm", i, err))
				continue
			}
		}
		remove := api.Remove
		if c.Hard {
			remove = api.Purge
		}
		if err := remove(ctx, i.account, i.id); err != nil {
			errs = append(errs, failed("rm", i, err))
			continue
		}
		removed = append(removed, i.String())
		if !g.JSON {
			errs = append(errs, printf(tty.out, "removed %s\n", i))
		}
	}
	if g.JSON {
		errs = append(errs, printJSON(tty.out, map[string]any{"removed": removed}))
	}
	return errors.Join(errs...)
}
