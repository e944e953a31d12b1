package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"carillon/admin/backup"
	"carillon/cluster"
)

// backupCmd groups the commands on backups. `appliance backup DIR` takes one.
type backupCmd struct {
	Take   backupTakeCmd   `cmd:"" default:"withargs" help:"Back up the cluster; the default."`
	Verify backupVerifyCmd `cmd:"" help:"Read a backup and compare it with what was backed up; needs no cluster."` //nolint:lll // a tag is one line
	List   backupListCmd   `cmd:"" help:"List the backups in a directory."`
}

type backupTakeCmd struct {
	Dir  string `arg:"" type:"path" help:"Directory of backups; what is in it already is not fetched again."`
	Keep int    `help:"How many backups stay in the directory; 0: all." default:"0" placeholder:"N"`
}

// Run takes a backup.
func (c *backupTakeCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	dir, err := backup.OpenDir(c.Dir)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	var status cluster.Status
	if _, err := api.ClusterStatus(ctx, &status); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	bar := newBar(tty, g.JSON, "backup")
	defer bar.clear()
	began := time.Now()
	taken, err := dir.Take(ctx, api, status.Cluster, c.Keep, bar.blobs)
	bar.clear()
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if g.JSON {
		return printJSON(tty.out, taken)
	}
	return printf(tty.out,
		"position %d: %d rows (%d new or changed, %d deleted), %d blobs of %s (%d fetched) in %v\n",
		taken.Position, taken.Rows, taken.Changed, taken.Deleted, taken.Blobs, sizeText(taken.Bytes), taken.Fetched,
		time.Since(began).Round(time.Millisecond))
}

// blobs draws progress that is counted in blobs.
func (b *bar) blobs(done, of, bytes int64) {
	b.title = fmt.Sprintf("blob %d of %d", done, of)
	b.update(bytes, -1)
}

type backupVerifyCmd struct {
	Dir string `arg:"" type:"existingdir" help:"Directory of backups."`
	All bool   `help:"All backups in it, not only the newest."`
}

// Run verifies a backup.
func (c *backupVerifyCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	dir, err := backup.OpenDir(c.Dir)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	newest, err := dir.Newest()
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	generations := []backup.Generation{newest}
	if c.All {
		generations = dir.Generations()
	}
	bar := newBar(tty, g.JSON, "verify")
	defer bar.clear()
	report, err := dir.Verify(ctx, generations, bar.blobs)
	bar.clear()
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if err := c.print(g, tty, report); err != nil {
		return err
	}
	if report.Damaged > 0 {
		return fmt.Errorf("verify: %d problems: %w", report.Damaged, backup.ErrDamaged)
	}
	return nil
}

func (c *backupVerifyCmd) print(g *globals, tty terminal, report backup.Report) error {
	if g.JSON {
		return printJSON(tty.out, report)
	}
	for _, p := range report.Problems {
		if err := printf(tty.out, "%s\n", p); err != nil {
			return err
		}
	}
	return printf(tty.out, "%d backups, %d rows, %d blobs of %s: %d problems\n", report.Generations, report.Rows,
		report.Blobs, sizeText(report.Bytes), report.Damaged)
}

type backupListCmd struct {
	Dir string `arg:"" type:"existingdir" help:"Directory of backups."`
}

// Run lists the backups.
func (c *backupListCmd) Run(g *globals, tty terminal) error {
	dir, err := backup.OpenDir(c.Dir)
	if err != nil {
		return fmt.Errorf("list backups: %w", err)
	}
	if g.JSON {
		return printJSON(tty.out, append([]backup.Generation{}, dir.Generations()...))
	}
	return printBackups(tty.out, dir.Generations())
}

func printBackups(w io.Writer, all []backup.Generation) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "POSITION\tTAKEN\tCLUSTER\tROWS\tCHANGED\tDELETED\tBLOBS\tBYTES\tFETCHED")
	for _, g := range all {
		_, _ = fmt.Fprintf(table, "%d\t%s\t%s\t%d\t%d\t%d\t%d\t%s\t%d\n", g.Position, g.Taken.Format(time.RFC3339),
			g.Cluster, g.Rows, g.Changed, g.Deleted, g.Blobs, sizeText(g.Bytes), g.Fetched)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

type restoreCmd struct {
	Dir      string `arg:"" type:"existingdir" help:"Directory of backups."`
	Position uint64 `help:"Which backup; default: the newest." placeholder:"N"`
	Merge    bool   `help:"Into a cluster that holds items already: they stay as they are."`
}

// Run restores a backup.
func (c *restoreCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	dir, err := backup.OpenDir(c.Dir)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	generation, err := dir.Newest()
	if err == nil && c.Position != 0 {
		generation, err = dir.At(c.Position)
	}
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	bar := newBar(tty, g.JSON, "restore")
	defer bar.clear()
	began := time.Now()
	done, err := dir.Restore(ctx, api, generation, c.Merge, bar.blobs)
	bar.clear()
	if err != nil {
		return err //nolint:wrapcheck // says what it did
	}
	if g.JSON {
		return printJSON(tty.out, done)
	}
	return printf(tty.out,
		"position %d: %d rows written, %d were there; %d blobs of %s, %d of them sent, in %v\n",
		done.Position, done.Rows, done.Skipped, done.Blobs, sizeText(done.Bytes), done.Sent,
		time.Since(began).Round(time.Millisecond))
}
