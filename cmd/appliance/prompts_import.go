package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"carillon/admin/client"
	"carillon/library"
	"carillon/library/naming"
)

const (
	// importJobsMax bounds the uploads at once: more only wait for one another's
	// fsyncs.
	importJobsMax = 32
	// importTries and importPause are for a cluster that elects a leader: the
	// pauses make fifteen seconds in all.
	importTries = 5
	importPause = time.Second
	// importErrorsShown of the files that failed are named for people; --json
	// names all.
	importErrorsShown = 10
	// importSourceType marks what was imported.
	importSourceType = "prompts_import"
)

type promptsImportCmd struct {
	Dir      string `arg:"" help:"Directory of .wav and .mp3 files, as FreeSWITCH, Kazoo or Asterisk keep them, or one file." type:"path"` //nolint:lll // a tag is one line
	Language string `required:"" help:"Language of the prompts, like en-us."`
	Account  string `default:"system" help:"Account that gets them."`
	Rate     string `enum:"8000,16000,32000,48000" default:"8000" help:"Rate to take where there are several directories of them; else the lowest."` //nolint:lll // a tag is one line
	Jobs     int    `default:"4" help:"Uploads at once, at most 32."`
	NewOnly  bool   `help:"Leave prompts alone that are there with another sound."`
	DryRun   bool   `short:"n" help:"Only say what would be done."`
}

// What was done with a file.
const (
	importCreated   = "created"
	importReplaced  = "replaced"
	importDescribed = "described" // the sound was there, the fields were not
	importUnchanged = "unchanged"
	importKept      = "kept" // another sound, and NewOnly
	importFailed    = "failed"
	importNotDone   = "not_done" // interrupted
)

// importedFile is a line of the report.
type importedFile struct {
	File   string `json:"file"`
	Item   string `json:"item"`
	Prompt string `json:"prompt_id"`
	Action string `json:"action"`
	Error  string `json:"error,omitempty"`
}

// importReport is what --json prints.
type importReport struct {
	Account  string         `json:"account"`
	Language string         `json:"language"`
	Dir      string         `json:"dir"`
	DryRun   bool           `json:"dry_run"`
	Counts   map[string]int `json:"counts"`
	Bytes    int64          `json:"bytes"` // of the sounds that were sent
	Files    []importedFile `json:"files"`
	Skipped  []string       `json:"skipped"`
}

// Run imports. Each file is one atomic write; what is there already is not
// sent, so that it can be run again after whatever ended it.
func (c *promptsImportCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	c.Language = strings.ToLower(c.Language)
	if c.Jobs < 1 || c.Jobs > importJobsMax {
		return fmt.Errorf("--jobs %d, want 1 to %d: %w", c.Jobs, importJobsMax, errUsage)
	}
	if err := naming.CheckAccount(c.Account); err != nil {
		return err
	}
	tree, err := scanPrompts(c.Dir, c.Language, c.Rate)
	if err != nil {
		return err
	}
	api, err := g.client()
	if err != nil {
		return err
	}
	i := &importer{cmd: c, api: api, there: make(map[string]library.Document)}
	for doc, err := range api.ListMedia(ctx, c.Account, library.ListQuery{
		Prefix: c.Language + "/", Limit: library.PageLimitMax,
	}) {
		if err != nil {
			return fmt.Errorf("list what is there: %w", err)
		}
		i.there[doc.ID] = doc
	}
	report, err := i.run(ctx, newBar(tty, g.JSON, "import "+c.Language), &tree)
	if g.JSON {
		return errors.Join(err, printJSON(tty.out, report))
	}
	return errors.Join(err, report.print(tty, err != nil))
}

// importer sends the files of a tree.
type importer struct {
	cmd   *promptsImportCmd
	api   *client.Client
	there map[string]library.Document // by id; only read

	sent atomic.Int64 // bytes
}

// run sends all files and returns the error of one that failed, for the exit
// code.
func (i *importer) run(ctx context.Context, bar *bar, tree *promptTree) (importReport, error) {
	report := importReport{
		Account: i.cmd.Account, Language: i.cmd.Language, Dir: tree.dir, DryRun: i.cmd.DryRun,
		Counts: make(map[string]int), Files: make([]importedFile, len(tree.files)), Skipped: tree.skipped,
	}
	if report.Skipped == nil {
		report.Skipped = []string{}
	}
	var total, done int64
	for _, f := range tree.files {
		total += f.size
	}
	var mu sync.Mutex // guards done, bar, report and worst
	var worst error
	var work errgroup.Group
	work.SetLimit(i.cmd.Jobs)
	for n, f := range tree.files {
		work.Go(func() error {
			action, err := i.file(ctx, f)
			if err != nil && ctx.Err() != nil {
				action = importNotDone
			}
			mu.Lock()
			defer mu.Unlock()
			line := importedFile{File: f.path, Item: i.cmd.Account + "/" + f.id, Prompt: f.prompt, Action: action}
			if err != nil {
				worst = worseOf(worst, err)
			}
			if action == importFailed {
				line.Error = err.Error()
			}
			report.Files[n] = line
			report.Counts[action]++
			done += f.size
			bar.update(done, total)
			return nil
		})
	}
	_ = work.Wait() // its functions return no errors
	bar.clear()
	report.Bytes = i.sent.Load()
	if worst != nil {
		return report, fmt.Errorf("import: %d of %d files failed: %w",
			report.Counts[importFailed]+report.Counts[importNotDone], len(tree.files), worst)
	}
	return report, nil
}

// worseOf prefers what decides the exit code: an interruption, then a missing
// token, then an unavailable cluster.
func worseOf(a, b error) error {
	for _, kind := range []int{exitInterrupted, exitDenied, exitUnavailable} {
		for _, err := range []error{a, b} {
			if err != nil && exitCode(err) == kind {
				return err
			}
		}
	}
	if a != nil {
		return a
	}
	return b
}

// file brings one file in, and tries again while the cluster has no majority.
func (i *importer) file(ctx context.Context, f promptFile) (string, error) {
	pause := importPause
	for try := 1; ; try++ {
		action, err := i.once(ctx, f)
		if err == nil {
			return action, nil
		}
		if try == importTries || exitCode(err) != exitUnavailable {
			return importFailed, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return importFailed, ctx.Err()
		}
		pause *= 2
	}
}

func (i *importer) once(ctx context.Context, f promptFile) (string, error) {
	if err := cmp.Or(ctx.Err(), naming.CheckID(f.id)); err != nil {
		return importFailed, err
	}
	file, err := os.Open(f.path)
	if err != nil {
		return importFailed, err //nolint:wrapcheck // it says what was opened
	}
	defer func() { _ = file.Close() }() // only read from
	digest, size, err := digestOf(file)
	if err != nil {
		return importFailed, fmt.Errorf("read: %w", err)
	}
	before, there := i.there[f.id]
	switch {
	case there && before.SHA256 == digest && i.described(&before, f):
		return importUnchanged, nil
	case there && before.SHA256 == digest:
		return i.describe(ctx, f)
	case there && i.cmd.NewOnly:
		return importKept, nil
	case i.cmd.DryRun && there:
		return importReplaced, nil
	case i.cmd.DryRun:
		return importCreated, nil
	}
	return i.send(ctx, f, file, size, digest)
}

// digestOf reads a file to its end and goes back to its start.
func digestOf(file *os.File) (digest string, size int64, err error) {
	sum := sha256.New()
	if size, err = io.Copy(sum, file); err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	return hex.EncodeToString(sum.Sum(nil)), size, err
}

func (i *importer) send(
	ctx context.Context, f promptFile, file io.Reader, size int64, digest string,
) (string, error) {
	opts := library.PutOptions{
		Language: i.cmd.Language, Prompt: f.prompt, Name: f.prompt, SourceType: importSourceType,
		IfNoneMatch: `"` + digest + `"`, // another import may have been faster
	}
	_, created, err := i.api.PutMedia(ctx, i.cmd.Account, f.id, file, size, opts, nil)
	switch {
	case errors.Is(err, library.ErrPrecondition):
		return importUnchanged, nil
	case err != nil:
		return importFailed, err
	}
	i.sent.Add(size)
	if created {
		return importCreated, nil
	}
	return importReplaced, nil
}

func (i *importer) described(d *library.Document, f promptFile) bool {
	return d.Prompt == f.prompt && d.Language == i.cmd.Language && d.AliasOf == ""
}

// describe makes a prompt of an item that has the sound already.
func (i *importer) describe(ctx context.Context, f promptFile) (string, error) {
	if i.cmd.DryRun {
		return importDescribed, nil
	}
	_, err := i.api.Update(ctx, i.cmd.Account, f.id, library.Patch{Language: &i.cmd.Language, Prompt: &f.prompt})
	if err != nil {
		return importFailed, err
	}
	return importDescribed, nil
}

// print is the summary for people; the files that failed go to standard error.
func (r *importReport) print(tty terminal, failed bool) error {
	if failed {
		shown := 0
		for _, f := range r.Files {
			if f.Error == "" {
				continue
			}
			if shown++; shown > importErrorsShown {
				_, _ = fmt.Fprintf(tty.err, "… and %d more\n", r.Counts[importFailed]-importErrorsShown)
				break
			}
			_, _ = fmt.Fprintf(tty.err, "%s: %s\n", f.File, f.Error)
		}
	}
	var parts []string
	for _, action := range []string{
		importCreated, importReplaced, importDescribed, importUnchanged, importKept, importFailed,
		importNotDone,
	} {
		if n := r.Counts[action]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, strings.ReplaceAll(action, "_", " ")))
		}
	}
	if n := len(r.Skipped); n > 0 {
		parts = append(parts, fmt.Sprintf("%d skipped", n))
	}
	would := ""
	if r.DryRun {
		would = "would be: "
	}
	return printf(tty.out, "%s%s (%d prompts in %s for %s, %s sent)\n",
		would, strings.Join(parts, ", "), len(r.Files), r.Language, r.Account, sizeText(r.Bytes))
}
