package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"carillon/library/secret"
	"carillon/library/webhook"
)

// webhooksCmd groups the commands on webhooks.
type webhooksCmd struct {
	Ls  webhooksLsCmd  `cmd:"" help:"List the webhooks and how they do."`
	Put webhooksPutCmd `cmd:"" help:"Make or change a webhook; prints the secret of a new one."`
	Rm  webhooksRmCmd  `cmd:"" help:"Remove a webhook."`

	Show webhooksShowCmd `cmd:"" help:"Show a webhook: what it wants, how far it is, what keeps it."`
	Test webhooksTestCmd `cmd:"" help:"Post a delivery without events and show what came of it."`
}

type webhooksLsCmd struct{}

// Run lists the webhooks.
func (*webhooksLsCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	hooks, err := api.Webhooks(ctx)
	if err != nil {
		return fmt.Errorf("list webhooks: %w", err)
	}
	if g.JSON {
		return printJSON(tty.out, map[string]any{"items": hooks})
	}
	table := tabwriter.NewWriter(tty.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "WEBHOOK\tSTATE\tPOSITION\tWAITING\tFOR\tNODE\tURL\tERROR")
	for _, w := range hooks {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%.0f s\t%s\t%s\t%s\n", w.ID, w.State, w.Position, w.Lag,
			w.LagSeconds, orDash(w.Node), w.URL, orDash(w.Error))
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

type webhooksShowCmd struct {
	ID string `arg:"" help:"Name of the webhook."`
}

// Run shows all that is known of a webhook; its secret is not.
func (r *webhooksShowCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	w, err := api.Webhook(ctx, r.ID)
	if err != nil {
		return fmt.Errorf("show webhook %s: %w", r.ID, err)
	}
	if g.JSON {
		return printJSON(tty.out, w)
	}
	rows := [][2]string{
		{"webhook", w.ID},
		{"url", w.URL},
		{"kinds", cmp.Or(strings.Join(w.Kinds, ", "), "all")},
		{"account", w.Account},
		{"state", string(w.State)},
		{"position", w.Position.String()},
		{"waiting", fmt.Sprintf("%d events, for %.0f s", w.Lag, w.LagSeconds)},
		{"delivered by", w.Node},
		{"last delivery", timeText(w.LastOK)},
		{"failing since", timeText(w.Failing)},
		{"error", w.Error},
		{"created", w.Created.Local().Format(time.DateTime)},
		{"revision", strconv.FormatUint(w.Revision, 10)},
	}
	if w.Attempts > 0 {
		rows = append(rows, [2]string{"failed attempts", strconv.Itoa(w.Attempts)})
	}
	if w.Missed > 0 { // events went before it had them
		rows = append(rows, [2]string{"missed", fmt.Sprintf("%d times", w.Missed)})
	}
	return printFields(tty.out, rows)
}

type webhooksPutCmd struct {
	ID       string   `arg:"" help:"Name of the webhook."`
	URL      string   `arg:"" help:"Where events are posted to."`
	Secret   string   `name:"secret-file" help:"Key of the signatures. Default: made." placeholder:"FILE"`
	Kind     []string `help:"Kinds, like media or recording.stored." placeholder:"KIND"`
	Account  string   `help:"Events of this account only."`
	After    string   `help:"Where to begin: a position, oldest or now." placeholder:"POS"`
	Disabled bool     `help:"Keep it, and deliver nothing."`
}

// Run makes or changes a webhook.
func (p *webhooksPutCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	secret, err := readSecret(p.Secret, tty.in)
	if err != nil {
		return err
	}
	w, err := api.PutWebhook(ctx, p.ID, webhook.Request{
		URL: p.URL, Secret: secret, Kinds: p.Kind, Account: p.Account, After: p.After,
		Disabled: p.Disabled,
	})
	if err != nil {
		return fmt.Errorf("put webhook %s: %w", p.ID, err)
	}
	if g.JSON {
		return printJSON(tty.out, w)
	}
	if err := printf(tty.out, "webhook %s is %s, after %s\n", w.ID, w.State, w.Position); err != nil {
		return err
	}
	if w.NewSecret != "" {
		return printf(tty.out, "secret %s\n", w.NewSecret)
	}
	return nil
}

// readSecret reads a secret from a file: the command line is seen by all users
// of the machine.
func readSecret(file string, in io.Reader) (secret.Text, error) {
	const bytesMax = 4 << 10
	switch file {
	case "":
		return "", nil
	case "-":
	default:
		f, err := os.Open(file) //nolint:gosec // the user's own choice
		if err != nil {
			return "", fmt.Errorf("secret: %w", err)
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, bytesMax))
	if err != nil {
		return "", fmt.Errorf("secret: %w", err)
	}
	return secret.Text(strings.TrimSpace(string(b))), nil
}

type webhooksTestCmd struct {
	ID string `arg:"" help:"Name of the webhook."`
}

// errNotTaken is returned when a receiver did not take a delivery.
var errNotTaken = errors.New("the receiver did not take it")

// Run tries a delivery.
func (r *webhooksTestCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	tried, err := api.TestWebhook(ctx, r.ID)
	if err != nil {
		return fmt.Errorf("test webhook %s: %w", r.ID, err)
	}
	if g.JSON {
		err = printJSON(tty.out, tried)
	} else {
		err = printf(tty.out, "status %d after %d ms %s%s\n", tried.Status, tried.TookMS, tried.Text, tried.Error)
	}
	if err == nil && !tried.OK {
		err = errNotTaken
	}
	return err
}

type webhooksRmCmd struct {
	ID string `arg:"" help:"Name of the webhook."`
}

// Run removes a webhook.
func (r *webhooksRmCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	if err := api.DeleteWebhook(ctx, r.ID); err != nil {
		return fmt.Errorf("remove webhook %s: %w", r.ID, err)
	}
	return printf(tty.out, "removed webhook %s\n", r.ID)
}
