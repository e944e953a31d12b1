package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"carillon/admin/client"
	"carillon/library"
	"carillon/library/export"
)

// recordingsCmd groups the commands on recordings.
type recordingsCmd struct {
	New     recordingsNewCmd     `cmd:"" help:"Make a ticket and print where to record to."`
	Ls      recordingsLsCmd      `cmd:"" aliases:"list" help:"List recordings, oldest first."`
	Show    recordingsShowCmd    `cmd:"" help:"Show a recording and where it is heard."`
	Store   recordingsStoreCmd   `cmd:"" help:"Make a recording an item, send it to a URL, or both."`
	Discard recordingsDiscardCmd `cmd:"" help:"End recordings and free them; what is stored stays."`

	Rerecord recordingsRerecordCmd `cmd:"" help:"Make a ticket for another take, whose sound replaces the old."`
}

type recordingsNewCmd struct {
	Account string        `arg:"" help:"Account that the recording is made in."`
	Name    string        `help:"Media name; one is made." placeholder:"NAME.mp3"`
	StoreAs string        `help:"Item of the account that it becomes when it ends." placeholder:"ID"`
	TTL     time.Duration `help:"How long the ticket waits for its source; else recordings.ticket_ttl."`
	Max     time.Duration `help:"Length at which the recording ends."`
	Min     time.Duration `help:"Length below which it is discarded."`
	Allow   []string      `help:"Network that its source may come from; may be repeated." placeholder:"NET"`
}

// Run makes the ticket.
func (c *recordingsNewCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	r, err := api.CreateRecording(ctx, library.RecordingRequest{
		Account: c.Account, Name: c.Name, StoreAs: c.StoreAs, TTLSeconds: int(c.TTL.Seconds()),
		TicketLimits: library.TicketLimits{
			MaxSeconds: int(c.Max.Seconds()), MinMS: c.Min.Milliseconds(), Allow: c.Allow,
		},
	})
	if err != nil {
		return fmt.Errorf("recordings new: %w", err)
	}
	return g.showTicket(tty, r)
}

// showTicket prints where to record to.
func (g *globals) showTicket(tty terminal, r client.Recording) error {
	if g.JSON {
		return printJSON(tty.out, r)
	}
	return printf(tty.out, "recording %s\n%s\n%s\n", r.ID, r.RecordURL, r.RecordURLHTTP)
}

type recordingsRerecordCmd struct {
	ID string `arg:"" name:"id" help:"Recording to take again; it must have ended, and not be stored."`
}

// Run makes the ticket of another take.
func (c *recordingsRerecordCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	r, err := api.Rerecord(ctx, c.ID)
	if err != nil {
		return fmt.Errorf("rerecord %s: %w", c.ID, err)
	}
	return g.showTicket(tty, r)
}

type recordingsLsCmd struct {
	Account string `help:"Only those of this account."`
	State   string `help:"Only those in this state: waiting, live, sealed, truncated, stored or discarded." enum:",waiting,live,sealed,truncated,stored,discarded" default:""` //nolint:lll // a tag is one line
}

// Run lists the recordings.
func (c *recordingsLsCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	found, err := allPages(func(after string) ([]client.Recording, string, error) {
		return api.Recordings(ctx, c.Account, after, library.PageLimitMax)
	})
	if err != nil {
		return fmt.Errorf("recordings ls: %w", err)
	}
	if c.State != "" {
		found = slices.DeleteFunc(found, func(r client.Recording) bool { return r.State != library.State(c.State) })
	}
	if g.JSON {
		return printJSON(tty.out, map[string]any{"items": found})
	}
	return printRecordings(tty.out, found)
}

func printRecordings(w io.Writer, found []client.Recording) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "ID\tSTATE\tCREATED\tLENGTH\tSIZE\tNAME") // errors show at Flush
	for i := range found {
		r := &found[i]
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s/%s\n", r.ID, r.State,
			r.Created.Local().Format(time.DateTime), lengthText(r.DurationMS), sizeText(r.Size), r.Account, r.Name)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

type recordingsShowCmd struct {
	ID string `arg:"" name:"id" help:"Recording to show."`
}

// Run shows the recording.
func (c *recordingsShowCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	r, err := api.Recording(ctx, c.ID)
	if err != nil {
		return fmt.Errorf("recording %s: %w", c.ID, err)
	}
	if g.JSON {
		return printJSON(tty.out, r)
	}
	return printRecording(tty.out, &r)
}

func printRecording(w io.Writer, r *client.Recording) error {
	rows := [][2]string{
		{"recording", r.ID},
		{"name", r.Account + "/" + r.Name},
		{"state", string(r.State)},
		{"ended by", string(r.EndedBy)},
		{"warning", r.Warning},
		{"node", r.Node},
		{"type", r.ContentType},
		{"size", fmt.Sprintf("%s (%d bytes)", sizeText(r.Size), r.Size)},
		{"length", lengthText(r.DurationMS)},
		{"sha256", r.SHA256},
		{"title", r.Title},
		{"created", r.Created.Local().Format(time.DateTime)},
		{"started", timeText(r.Started)},
		{"ended", timeText(r.Ended)},
		{"expires", timeText(r.Expires)},
		{"export", r.ExportID},
		{"replaces", r.Replaces},
	}
	if r.Item != "" {
		rows = append(rows, [2]string{"item", r.ItemAccount + "/" + r.Item})
	}
	if n := len(r.Segments); n > 0 {
		rows = append(rows, [2]string{"sources", strconv.Itoa(n)})
	}
	if r.State != library.StateWaiting && r.State != library.StateDiscarded {
		rows = append(rows, [2]string{"heard at", r.PlayURLs.HTTP}, [2]string{"", r.PlayURLs.Shout})
	}
	return printFields(w, rows)
}

func timeText(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.Local().Format(time.DateTime)
}

type recordingsStoreCmd struct {
	ID   string `arg:"" name:"id" help:"Recording to store; it must have ended."`
	Item *item  `arg:"" optional:"" placeholder:"ACCOUNT/ID" help:"Item that it becomes."`
	URL  string `placeholder:"URL" help:"PUT its sound there, too; see exports ls."`
}

// Run stores the recording.
func (c *recordingsStoreCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	if c.Item == nil && c.URL == "" {
		return fmt.Errorf("recordings store needs ACCOUNT/ID, --url, or both: %w", errUsage)
	}
	api, err := g.client()
	if err != nil {
		return err
	}
	if c.URL == "" {
		doc, err := api.Store(ctx, c.ID, c.Item.account, c.Item.id)
		if err != nil {
			return fmt.Errorf("store recording %s: %w", c.ID, err)
		}
		if g.JSON {
			return printJSON(tty.out, doc)
		}
		return printf(tty.out, "stored %s\n", describe(doc))
	}
	r := client.StoreRequest{Target: export.Target{URL: c.URL}}
	if c.Item != nil {
		r.Account, r.ID = c.Item.account, c.Item.id
	}
	order, err := api.Export(ctx, c.ID, r)
	if err != nil {
		return fmt.Errorf("store recording %s: %w", c.ID, err)
	}
	if g.JSON {
		return printJSON(tty.out, order)
	}
	if c.Item != nil {
		if err := printf(tty.out, "stored %s/%s\n", c.Item.account, c.Item.id); err != nil {
			return err
		}
	}
	return printf(tty.out, "export %s  %s %s\n", order.ID, order.Method, order.Target)
}

type recordingsDiscardCmd struct {
	IDs []string `arg:"" name:"id" help:"Recordings to discard."`
}

// Run discards all recordings that it can and reports the others.
func (c *recordingsDiscardCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	var errs []error
	ok := []string{}
	for _, id := range c.IDs {
		if err := api.Discard(ctx, id); err != nil {
			errs = append(errs, fmt.Errorf("discard recording %s: %w", id, err))
			continue
		}
		ok = append(ok, id)
		if !g.JSON {
			errs = append(errs, printf(tty.out, "discarded %s\n", id))
		}
	}
	if g.JSON {
		errs = append(errs, printJSON(tty.out, map[string]any{"discarded": ok}))
	}
	return errors.Join(errs...)
}
