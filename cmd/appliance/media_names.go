package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"carillon/library"
)

type mediaCpCmd struct {
	From   item   `arg:"" placeholder:"ACCOUNT/ID" help:"Item to copy."`
	To     item   `arg:"" placeholder:"ACCOUNT/ID" help:"Its copy."`
	Prompt string `help:"Prompt id of the copy; within an account a copy is no prompt otherwise."`
	newName
}

// newName is how an item may be changed as it gets its new name.
type newName struct {
	Overwrite bool   `help:"Replace an item that has that name."`
	Name      string `help:"Another name for people."`
	Language  string `help:"Another language of the prompt."`
}

func (n *newName) request(from, to item, prompt string) library.CopyRequest {
	r := library.CopyRequest{From: from.name(), To: to.name(), Overwrite: n.Overwrite}
	for text, field := range map[*string]**string{
		&n.Name: &r.Set.Name, &n.Language: &r.Set.Language, &prompt: &r.Set.Prompt,
	} {
		if *text != "" {
			*field = text
		}
	}
	return r
}

// Run copies.
func (c *mediaCpCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	doc, err := api.Copy(ctx, c.request(c.From, c.To, c.Prompt))
	if err != nil {
		return failed("copy", c.From, err)
	}
	return g.show(tty, "copied", doc)
}

type mediaMvCmd struct {
	From   item   `arg:"" placeholder:"ACCOUNT/ID" help:"Item to rename."`
	To     item   `arg:"" placeholder:"ACCOUNT/ID" help:"Its new name. Second names and playlists follow."`
	Prompt string `help:"Another prompt id; without it, it stays the prompt that it is."`
	newName
}

// Run renames.
func (c *mediaMvCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	doc, err := api.Rename(ctx, c.request(c.From, c.To, c.Prompt))
	if err != nil {
		return failed("rename", c.From, err)
	}
	return g.show(tty, "renamed", doc)
}

type mediaAliasCmd struct {
	Of        item `arg:"" placeholder:"ACCOUNT/ID" help:"Item."`
	Alias     item `arg:"" placeholder:"ACCOUNT/ID" help:"Second name, which plays whatever the item plays."`
	Overwrite bool `help:"Replace an item that has that name."`
}

// Run makes a second name.
func (c *mediaAliasCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	doc, err := api.Alias(ctx, library.AliasRequest{
		Alias: c.Alias.name(), Of: c.Of.name(), Overwrite: c.Overwrite,
	})
	if err != nil {
		return failed("alias", c.Alias, err)
	}
	if g.JSON {
		return printJSON(tty.out, doc)
	}
	return printf(tty.out, "%s/%s is %s\n", doc.Account, doc.ID, doc.AliasOf)
}

type mediaUndeleteCmd struct {
	Item     item   `arg:"" placeholder:"ACCOUNT/ID" help:"Item to bring back."`
	Deletion string `help:"Which deletion of it, as media ls --deleted --json names it; else the latest."`
	As       string `help:"Id to come back under." placeholder:"ID"`
}

// Run brings an item back.
func (c *mediaUndeleteCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	doc, err := api.Undelete(ctx, library.UndeleteRequest{
		Account: c.Item.account, ID: c.Item.id, Deletion: c.Deletion, As: c.As,
	})
	if err != nil {
		return failed("undelete", c.Item, err)
	}
	return g.show(tty, "back", doc)
}

// show prints a document that an operation made.
func (g *globals) show(tty terminal, verb string, doc library.Document) error {
	if g.JSON {
		return printJSON(tty.out, doc)
	}
	return printf(tty.out, "%s %s\n", verb, describe(doc))
}

func (i item) name() library.ItemName { return library.ItemName{Account: i.account, ID: i.id} }

type mediaLookupCmd struct {
	Names    []string `arg:"" help:"Media names, as a dialplan has them: prompt://acme/vm-hello, /acme/moh/jazz."` //nolint:lll // a tag is one line
	Account  string   `help:"Account of the call."`
	Language string   `help:"Language of the call."`
	Player   string   `help:"Module of FreeSWITCH: shout, shell_stream, http_cache, httapi or plain."`
	Stream   string   `help:"new, or extant for a stream that others listen to."`
	URL      bool     `help:"Print the URL instead of FreeSWITCH's file string."`
}

// Run prints a file string for each name, and reports those that lead nowhere.
func (c *mediaLookupCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	found := []library.Lookup{}
	var errs []error
	for _, name := range c.Names {
		answer, err := api.Lookup(ctx, library.LookupRequest{
			Name: name, Account: c.Account, Language: c.Language, Player: library.Player(c.Player), Stream: c.Stream,
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		found = append(found, answer)
		text := answer.FreeSWITCH
		if c.URL {
			text = answer.StreamURL
		}
		if !g.JSON {
			errs = append(errs, printf(tty.out, "%s\n", text))
		}
	}
	if g.JSON {
		errs = append(errs, printJSON(tty.out, map[string]any{"items": found}))
	}
	return errors.Join(errs...)
}

type mediaSetCmd struct {
	Item        item              `arg:"" placeholder:"ACCOUNT/ID" help:"Item to change."`
	Name        *string           `help:"Name for people."`
	Description *string           `help:"Description for people."`
	Language    *string           `help:"Language, like en-us; that of a prompt stays."`
	Prompt      *string           `help:"Prompt id; \"\" for none."`
	SourceID    *string           `help:"What made it: the id of a mailbox, for example."`
	SourceType  *string           `help:"What made it: voicemail, for example."`
	Class       *string           `help:"upload, voicemail or recording: retention goes by it."`
	Streamable  *bool             `help:"Whether lookups find it." negatable:""`
	Meta        map[string]string `help:"Free metadata; an empty value removes." placeholder:"KEY=VALUE"`
}

// Run changes the fields that are given.
func (c *mediaSetCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	p := library.Patch{
		Name: c.Name, Description: c.Description, Language: c.Language, Prompt: c.Prompt, SourceID: c.SourceID,
		SourceType: c.SourceType, Streamable: c.Streamable, Metadata: c.Meta,
	}
	if c.Class != nil {
		class := library.Class(*c.Class)
		p.Class = &class
	}
	if reflect.DeepEqual(p, library.Patch{}) {
		return fmt.Errorf("nothing to set: %w", errUsage)
	}
	doc, err := api.Update(ctx, c.Item.account, c.Item.id, p)
	if err != nil {
		return failed("set", c.Item, err)
	}
	if g.JSON {
		return printJSON(tty.out, doc)
	}
	return printDocument(tty.out, doc)
}

type mediaReclaimCmd struct{}

// Run says what was deleted and still takes room.
func (c *mediaReclaimCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	r, err := api.Reclaim(ctx)
	if err != nil {
		return fmt.Errorf("reclaim: %w", err)
	}
	if g.JSON {
		return printJSON(tty.out, r)
	}
	if r.Started.IsZero() {
		return printf(tty.out, "nothing was looked at yet\n")
	}
	state := "running"
	if r.Ended != nil {
		state = "took " + r.Ended.Sub(r.Started).Round(time.Millisecond).String()
	}
	return printf(tty.out, "deleted   %d items, %s, can be brought back\n"+
		"expired   %d items, %s, in the last pass\npurged    %d items, %s, in the last pass\n"+
		"last pass %s on %s, %s\n%s",
		r.Deleted.Items, sizeText(r.Deleted.Bytes), r.Expired.Items, sizeText(r.Expired.Bytes),
		r.Purged.Items, sizeText(r.Purged.Bytes), r.Started.Local().Format(time.DateTime), r.Node, state,
		errorLine(r.Error))
}

func errorLine(text string) string {
	if text == "" {
		return ""
	}
	return "error     " + text + "\n"
}
