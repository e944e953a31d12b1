package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"carillon/admin/client"
)

type mediaGetCmd struct {
	Item item   `arg:"" placeholder:"ACCOUNT/ID" help:"Item to fetch."`
	File string `arg:"" optional:"" help:"File to write, - for standard output; default: the last part of ID."`
}

// Run fetches the item. A file appears under its name only when it is whole.
func (c *mediaGetCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	bar := newBar(tty, g.JSON, c.Item.String())
	defer bar.clear()
	if c.File == "-" {
		_, err = api.GetMedia(ctx, c.Item.account, c.Item.id, tty.out, bar.update)
		return c.wrap(err)
	}
	to := c.File
	if to == "" {
		to = path.Base(c.Item.id)
	}
	n, err := fetch(ctx, api, c.Item, to, bar.update)
	bar.clear()
	if err != nil {
		return c.wrap(err)
	}
	if g.JSON {
		return printJSON(tty.out, map[string]any{
			"account": c.Item.account, "id": c.Item.id, "file": to, "content_length": n,
		})
	}
	return printf(tty.out, "%s  %s\n", to, sizeText(n))
}

func (c *mediaGetCmd) wrap(err error) error {
	if err != nil {
		return failed("get", c.Item, err)
	}
	return nil
}

// fetch writes to a file beside the wanted one and renames it at the end.
func fetch(ctx context.Context, api *client.Client, from item, to string, progress client.Progress) (
	n int64, err error,
) {
	f, err := os.CreateTemp(filepath.Dir(to), "."+filepath.Base(to)+".*")
	if err != nil {
		return 0, fmt.Errorf("create: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	n, err = api.GetMedia(ctx, from.account, from.id, f, progress)
	if err = errors.Join(err, closeFile(f)); err != nil {
		return n, err
	}
	// CreateTemp makes files that only their owner may read.
	if err = os.Chmod(f.Name(), 0o644); err != nil { //nolint:gosec // media that anyone may play
		return n, fmt.Errorf("permissions: %w", err)
	}
	if err = os.Rename(f.Name(), to); err != nil {
		return n, fmt.Errorf("rename: %w", err)
	}
	return n, nil
}

func closeFile(c io.Closer) error {
	if err := c.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}
