package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"carillon/library"
	"carillon/library/export"
)

// exportsCmd groups the commands on exports of sound.
type exportsCmd struct {
	New   exportsNewCmd   `cmd:"" help:"Send an item's sound to a URL; of a recording: see recordings store."`
	Ls    exportsLsCmd    `cmd:"" help:"List exports: what is sent where, and what keeps it from arriving."`
	Retry exportsRetryCmd `cmd:"" help:"Try exports again at once, also those that were given up."`
	Rm    exportsRmCmd    `cmd:"" help:"Take exports back; recordings and items that still exist stay."`
}

type exportsNewCmd struct {
	Item        item              `arg:"" placeholder:"ACCOUNT/ID" help:"Item to send."`
	URL         string            `arg:"" optional:"" name:"url" help:"Where it is PUT; else below the account's export URL, under its id."` //nolint:lll // a tag is one line
	Header      map[string]string `help:"Header that goes with it; may be repeated." placeholder:"NAME=VALUE"`
	Post        bool              `help:"POST it instead."`
	DeleteAfter bool              `help:"Delete the item once the URL has taken it."`
}

// Run orders the export.
func (c *exportsNewCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	target := export.Target{URL: c.URL, Headers: c.Header, DeleteAfter: c.DeleteAfter}
	if c.Post {
		target.Method = http.MethodPost
	}
	order, err := api.ExportItem(ctx, library.ItemExport{ItemName: c.Item.name(), Target: target})
	if err != nil {
		return failed("export", c.Item, err)
	}
	if g.JSON {
		return printJSON(tty.out, order)
	}
	return printf(tty.out, "export %s  %s %s\n", order.ID, order.Method, order.Target)
}

type exportsLsCmd struct {
	Account string `help:"Only those of this account."`
	State   string `help:"Only those in this state: queued, running, failed or done." enum:",queued,running,failed,done" default:""` //nolint:lll // a tag is one line
}

// Run lists the exports, oldest first.
func (c *exportsLsCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	q := export.Query{
		Account: c.Account, State: export.State(c.State), Limit: library.PageLimitMax,
	}
	found, err := allPages(func(after string) ([]export.Order, string, error) {
		q.After = after
		return api.Exports(ctx, q)
	})
	if err != nil {
		return fmt.Errorf("exports ls: %w", err)
	}
	if g.JSON {
		return printJSON(tty.out, map[string]any{"items": found})
	}
	return printExports(tty.out, found)
}

func printExports(w io.Writer, found []export.Order) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "ID\tSTATE\tTRIES\tNEXT TRY\tOF\tSIZE\tTARGET") // errors show at Flush
	for _, e := range found {
		next := "-"
		if e.NextTry != nil {
			next = e.NextTry.Local().Format(time.DateTime)
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s\t%s\t%s %s\n", e.ID, e.State, e.Attempts, next,
			e.Account+"/"+cmp.Or(e.Item, e.RecordingID), sizeText(e.Size), e.Method, e.Target)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	for _, e := range found {
		if e.Error == "" {
			continue
		}
		if err := printf(w, "\n%s: %s\n", e.ID, e.Error); err != nil {
			return err
		}
	}
	return nil
}

type exportsRetryCmd struct {
	IDs []string `arg:"" name:"id" help:"Exports to try."`
}

// Run retries all exports that it can and reports the others.
func (c *exportsRetryCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	return eachExport(g, tty, c.IDs, "retried", func(api exportsAPI, id string) error {
		_, err := api.RetryExport(ctx, id)
		return err //nolint:wrapcheck // eachExport names it
	})
}

type exportsRmCmd struct {
	IDs []string `arg:"" name:"id" help:"Exports to take back."`
}

// Run removes all exports that it can and reports the others.
func (c *exportsRmCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	return eachExport(g, tty, c.IDs, "removed", func(api exportsAPI, id string) error {
		return api.RemoveExport(ctx, id) //nolint:wrapcheck // eachExport names it
	})
}

// exportsAPI is the part of the client that changes exports.
type exportsAPI interface {
	RetryExport(ctx context.Context, id string) (export.Order, error)
	RemoveExport(ctx context.Context, id string) error
}

func eachExport(
	g *globals, tty terminal, ids []string, done string, do func(api exportsAPI, id string) error,
) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	var errs []error
	ok := []string{}
	for _, id := range ids {
		if err := do(api, id); err != nil {
			errs = append(errs, fmt.Errorf("export %s: %w", id, err))
			continue
		}
		ok = append(ok, id)
		if !g.JSON {
			errs = append(errs, printf(tty.out, "%s %s\n", done, id))
		}
	}
	if g.JSON {
		errs = append(errs, printJSON(tty.out, map[string]any{done: ok}))
	}
	return errors.Join(errs...)
}
