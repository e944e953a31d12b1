package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"carillon/library"
)

type mediaInfoCmd struct {
	Item item `arg:"" placeholder:"ACCOUNT/ID" help:"Item to show."`
}

// Run shows the document.
func (c *mediaInfoCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	doc, err := api.Info(ctx, c.Item.account, c.Item.id)
	if err != nil {
		return failed("info", c.Item, err)
	}
	if g.JSON {
		return printJSON(tty.out, doc)
	}
	return printDocument(tty.out, doc)
}

func printDocument(w io.Writer, doc library.Document) error {
	rows := [][2]string{
		{"item", doc.Account + "/" + doc.ID},
		{"name", doc.Name},
		{"description", doc.Description},
		{"language", doc.Language},
		{"prompt", doc.Prompt},
		{"type", doc.ContentType},
		{"size", fmt.Sprintf("%s (%d bytes)", sizeText(doc.Size), doc.Size)},
		{"length", lengthText(doc.DurationMS)},
		{"sound", soundText(doc)},
		{"sha256", doc.SHA256},
		{"revision", strconv.FormatUint(doc.Revision, 10)},
		{"source", strings.TrimSpace(doc.Source + " " + doc.SourceType + " " + doc.SourceID)},
		{"class", string(doc.Class)},
		{"says", saysText(doc)},
		{"created", doc.Created.Local().Format(time.DateTime)},
		{"modified", doc.Modified.Local().Format(time.DateTime)},
	}
	meta := make([][2]string, 0, len(doc.Metadata))
	for _, key := range slices.Sorted(maps.Keys(doc.Metadata)) {
		meta = append(meta, [2]string{"meta " + key, doc.Metadata[key]})
	}
	return printFields(w, rows, meta)
}

func saysText(doc library.Document) string {
	if doc.TTS == nil {
		return ""
	}
	return strings.TrimSpace(doc.TTS.Text + " " + doc.TTS.Voice)
}

func soundText(doc library.Document) string {
	a := doc.Audio
	if a.Format == "" {
		return ""
	}
	text := fmt.Sprintf("%s, %d Hz, %s, %d kbit/s",
		a.Codec, a.SampleRate, channelsText(a.Channels), a.BitRate/1000)
	if doc.Truncated || a.Truncated {
		text += ", truncated"
	}
	return text
}

func channelsText(n int) string {
	switch n {
	case 1:
		return "mono"
	case 2:
		return "stereo"
	}
	return strconv.Itoa(n) + " channels"
}
