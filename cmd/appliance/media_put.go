package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"carillon/library"
)

type mediaPutCmd struct {
	File string `arg:"" help:"File to store, - for standard input."`
	Item string `arg:"" placeholder:"ACCOUNT/ID" help:"Item; if it ends with / the file's name is added."`

	Name        string            `help:"Name for people."`
	Description string            `help:"Description for people."`
	Language    string            `help:"Language of a prompt, like en-us."`
	Prompt      string            `help:"Prompt id, like vm-enter_id."`
	Source      string            `help:"upload, recording or tts." placeholder:"SOURCE"`
	SourceID    string            `help:"What made it: the id of a mailbox, for example."`
	SourceType  string            `help:"What made it: voicemail, for example."`
	Class       string            `help:"upload, voicemail or recording: retention goes by it."`
	TTSText     string            `name:"tts-text" help:"What it says, if it was synthesised."`
	TTSVoice    string            `name:"tts-voice" help:"With whose voice."`
	Meta        map[string]string `help:"Free metadata; may be repeated." placeholder:"KEY=VALUE"`
	New         bool              `help:"Fail if the item is there already."`
}

// Run stores the file.
func (c *mediaPutCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	name := c.Item
	if strings.HasSuffix(name, "/") && c.File != "-" {
		name += filepath.Base(c.File)
	}
	var to item
	if err := to.UnmarshalText([]byte(name)); err != nil {
		return err
	}
	api, err := g.client()
	if err != nil {
		return err
	}
	body, size, err := c.open(tty)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }() // only read from
	opts := library.PutOptions{
		Length: size, Name: c.Name, Description: c.Description, Language: c.Language, Prompt: c.Prompt,
		Source: c.Source, SourceID: c.SourceID, SourceType: c.SourceType, Class: library.Class(c.Class),
		Metadata: c.Meta,
	}
	if c.TTSText != "" || c.TTSVoice != "" {
		opts.TTS = &library.TTS{Text: c.TTSText, Voice: c.TTSVoice}
	}
	if c.New {
		opts.IfNoneMatch = "*"
	}
	bar := newBar(tty, g.JSON, to.String())
	doc, created, err := api.PutMedia(ctx, to.account, to.id, body, size, opts, bar.update)
	bar.clear()
	if err != nil {
		return failed("put", to, err)
	}
	if g.JSON {
		return printJSON(tty.out, doc)
	}
	verb := "replaced"
	if created {
		verb = "created"
	}
	return printf(tty.out, "%s %s\n", verb, describe(doc))
}

// open returns the file and its size, -1 if it is not known before the end.
func (c *mediaPutCmd) open(tty terminal) (io.ReadCloser, int64, error) {
	if c.File == "-" {
		return io.NopCloser(tty.in), -1, nil
	}
	f, err := os.Open(c.File)
	if err != nil {
		return nil, 0, err //nolint:wrapcheck // it says what was opened
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		_ = f.Close()
		return nil, 0, fmt.Errorf("size of %s: %w", c.File, err)
	case info.IsDir():
		_ = f.Close()
		return nil, 0, fmt.Errorf("%s is a directory: %w", c.File, errUsage)
	case !info.Mode().IsRegular():
		return f, -1, nil
	}
	return f, info.Size(), nil
}
