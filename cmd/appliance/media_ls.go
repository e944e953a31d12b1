package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"text/tabwriter"
	"time"

	"carillon/library"
)

type mediaLsCmd struct {
	Account  string `arg:"" help:"Account to list."`
	Prefix   string `help:"Only ids that begin so."`
	Language string `help:"Only this language."`
	Prompt   string `help:"Only this prompt id."`
	Name     string `help:"Only items whose name holds this."`
	Class    string `help:"Only this class: system, upload, voicemail or recording."`
	Deleted  bool   `help:"What was removed and can be brought back, instead."`
	Long     bool   `short:"l" help:"Show size, length, type, time and revision."`
}

// Run lists the documents as they arrive, page by page.
func (c *mediaLsCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	docs := api.ListMedia(ctx, c.Account, library.ListQuery{
		Prefix: c.Prefix, Language: c.Language, Prompt: c.Prompt, Name: c.Name, Class: library.Class(c.Class),
		Deleted: c.Deleted, Limit: library.PageLimitMax,
	})
	switch {
	case g.JSON:
		err = c.json(tty.out, docs)
	case c.Long:
		err = c.table(tty.out, docs)
	default:
		err = c.names(tty.out, docs)
	}
	if err != nil {
		return fmt.Errorf("ls %s: %w", c.Account, err)
	}
	return nil
}

func (c *mediaLsCmd) names(w io.Writer, docs iter.Seq2[library.Document, error]) error {
	for doc, err := range docs {
		if err != nil {
			return err
		}
		if err := printf(w, "%s\n", listed(doc)); err != nil {
			return err
		}
	}
	return nil
}

// listed is an id with what is particular about its item.
func listed(doc library.Document) string {
	switch {
	case doc.AliasOf != "":
		return doc.ID + " -> " + doc.AliasOf
	case doc.Deletion != nil:
		return fmt.Sprintf("%s  removed %s (%s), kept until %s", doc.ID,
			doc.Deletion.Time.Local().Format(time.DateTime), doc.Deletion.Reason,
			doc.Deletion.Until.Local().Format(time.DateTime))
	}
	return doc.ID
}

func (c *mediaLsCmd) table(w io.Writer, docs iter.Seq2[library.Document, error]) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(table, "SIZE\tLENGTH\tTYPE\tMODIFIED\tREVISION\t  ID") // errors show at Flush
	for doc, err := range docs {
		if err != nil {
			return err
		}
		size, length := sizeText(doc.Size), lengthText(doc.DurationMS)
		if doc.AliasOf != "" { // it has none of its own
			size, length = "-", "-"
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t  %s\n", size, length, orDash(doc.ContentType),
			doc.Modified.Local().Format(time.DateTime), doc.Revision, listed(doc))
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// json prints one object, {"items":[…]}, without holding all items.
func (c *mediaLsCmd) json(w io.Writer, docs iter.Seq2[library.Document, error]) error {
	separator := `{"items":[`
	for doc, err := range docs {
		if err != nil {
			return err
		}
		text, err := json.Marshal(doc)
		if err != nil {
			return fmt.Errorf("print JSON: %w", err)
		}
		if err := printf(w, "%s\n%s", separator, text); err != nil {
			return err
		}
		separator = ","
	}
	if separator != "," {
		return printf(w, "%s]}\n", separator)
	}
	return printf(w, "\n]}\n")
}
