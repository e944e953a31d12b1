package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"carillon/admin/client"
	"carillon/library/feed"
)

// eventsRetryWait is the pause before a lost feed is taken up again.
const eventsRetryWait = time.Second

// eventsCmd reads the change feed.
type eventsCmd struct {
	Follow  bool     `short:"f" help:"Wait for what comes; go on by itself when the node was away."`
	After   string   `help:"Position, oldest or now. Default: oldest, to follow: now." placeholder:"POS"`
	Account string   `help:"Events of this account only."`
	Kind    []string `help:"Kinds, like media or recording.stored." placeholder:"KIND"`
}

// Run prints events, one a line.
func (e *eventsCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	show := func(ev feed.Event) error { return printEvent(tty.out, ev) }
	if g.JSON {
		show = func(ev feed.Event) error { return printJSONLine(tty.out, ev) }
	}
	o := client.EventOptions{After: e.After, Account: e.Account, Kinds: e.Kind, Follow: e.Follow}
	for {
		o.After, err = api.Events(ctx, o, show)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil && e.Follow:
			return nil // Ctrl-C is how one stops following
		case !e.Follow || exitCode(err) != exitUnavailable:
			return fmt.Errorf("events: %w", err)
		}
		if err := printf(tty.err, "events: %v; going on after %s\n", err, orDash(o.After)); err != nil {
			return err
		}
		timer := time.NewTimer(eventsRetryWait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// printEvent is a line for people.
func printEvent(w io.Writer, e feed.Event) error {
	what := e.Account
	if e.ID != "" {
		what += "/" + e.ID
	}
	if e.RecordingID != "" {
		what += "  recording " + e.RecordingID
	}
	if e.Size > 0 {
		what += fmt.Sprintf("  %s  %s", sizeText(e.Size), lengthText(e.DurationMS))
	}
	if e.Detail != "" {
		what += "  " + e.Detail
	}
	at := e.Time.UTC().Format("2006-01-02 15:04:05.000")
	return printf(w, "%-10s  %s  %-19s  %s\n", e.Position, at, e.Kind, what)
}

// printJSONLine prints one object a line, so that the output of --follow can be
// read by programs as it comes.
func printJSONLine(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("print JSON: %w", err)
	}
	return nil
}
