package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"carillon/library"
)

// What begins an argument that is no item. An account holds no colon.
const (
	recordingScheme = "recording:"
	pauseScheme     = "pause:"
	toneScheme      = "tone:"
)

// sound is the argument ACCOUNT/ID or recording:ID.
type sound struct {
	item

	recordingID string
}

// UnmarshalText reads ACCOUNT/ID or recording:ID.
func (s *sound) UnmarshalText(text []byte) error {
	if id, is := strings.CutPrefix(string(text), recordingScheme); is && id != "" {
		s.recordingID = id
		return nil
	}
	return s.item.UnmarshalText(text)
}

// String is the argument again.
func (s sound) String() string {
	if s.recordingID != "" {
		return recordingScheme + s.recordingID
	}
	return s.item.String()
}

// piece is an argument of a join: a sound, pause:LENGTH or tone:HZ:LENGTH[:DB].
type piece struct{ library.Piece }

// UnmarshalText reads a part of a join.
func (p *piece) UnmarshalText(text []byte) error {
	var err error
	if length, is := strings.CutPrefix(string(text), pauseScheme); is {
		p.MS, err = milliseconds(length)
	} else if tone, is := strings.CutPrefix(string(text), toneScheme); is {
		err = p.readTone(tone)
	} else {
		var s sound
		err = s.UnmarshalText(text)
		p.Account, p.ID, p.RecordingID = s.account, s.id, s.recordingID
	}
	if err != nil {
		return fmt.Errorf("%q is no ACCOUNT/ID, recording:ID, pause:LENGTH or tone:HZ:LENGTH: %w: %w",
			text, err, errUsage)
	}
	return nil
}

// readTone reads HZ:LENGTH[:DB].
func (p *piece) readTone(text string) (err error) {
	hz, length, _ := strings.Cut(text, ":")
	length, db, loud := strings.Cut(length, ":")
	if p.ToneHz, err = strconv.ParseFloat(hz, 64); err != nil {
		return fmt.Errorf("frequency: %w", err)
	}
	if loud {
		if p.ToneDB, err = strconv.ParseFloat(db, 64); err != nil {
			return fmt.Errorf("level: %w", err)
		}
	}
	p.MS, err = milliseconds(length)
	return err
}

func milliseconds(text string) (int64, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("length: %w", err)
	}
	return d.Milliseconds(), nil
}

// editForm is how the result of an edit is stored.
type editForm struct {
	Format   string `help:"wav or mp3; else what the new id ends in, else wav." enum:",wav,mp3" default:""`
	Rate     int    `help:"Samples per second; else those of the first sound." placeholder:"HZ"`
	Channels int    `help:"1 or 2; else those of the first sound." placeholder:"N"`
	BitRate  int    `help:"Bits per second, of MP3." placeholder:"N"`
	New      bool   `help:"Fail if the item is there already."`
}

func (f *editForm) form() library.EditForm {
	return library.EditForm{Format: f.Format, SampleRate: f.Rate, Channels: f.Channels, BitRate: f.BitRate}
}

// ifNoneMatch is the condition on what has the name of the result.
func (f *editForm) ifNoneMatch() string {
	if f.New {
		return "*"
	}
	return ""
}

type mediaJoinCmd struct {
	To    item    `arg:"" placeholder:"ACCOUNT/ID" help:"Item to make, replacing what was there."`
	Parts []piece `arg:"" placeholder:"PART" help:"Its parts in order: ACCOUNT/ID, recording:ID, pause:500ms, or tone:440:1s with an optional level in dB (tone:440:1s:-12)."` //nolint:lll // a tag is one line

	editForm

	Name        string            `help:"Name for people."`
	Description string            `help:"Description for people."`
	SourceID    string            `help:"What made it: the id of a mailbox, for example."`
	SourceType  string            `help:"What made it: voicemail, for example."`
	Class       string            `help:"upload, voicemail or recording: retention goes by it."`
	Meta        map[string]string `help:"Free metadata; may be repeated." placeholder:"KEY=VALUE"`
}

// Run joins.
func (c *mediaJoinCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	parts := make([]library.Piece, len(c.Parts))
	for i := range c.Parts {
		parts[i] = c.Parts[i].Piece
	}
	doc, err := api.Join(ctx, library.JoinRequest{
		To: c.To.name(), Parts: parts, EditForm: c.form(), Name: c.Name, Description: c.Description,
		Class: library.Class(c.Class), SourceID: c.SourceID, SourceType: c.SourceType, Metadata: c.Meta,
		IfNoneMatch: c.ifNoneMatch(),
	})
	if err != nil {
		return failed("join", c.To, err)
	}
	return g.show(tty, "joined", doc)
}

type mediaTrimCmd struct {
	From sound `arg:"" placeholder:"SOUND" help:"ACCOUNT/ID to cut, or recording:ID of one that has ended."`
	To   *item `arg:"" optional:"" placeholder:"ACCOUNT/ID" help:"Item that what is left becomes; without it, an item is cut in its own place."` //nolint:lll // a tag is one line

	Start     time.Duration `name:"from" help:"Where it begins, like 1.5s."`
	End       time.Duration `name:"to" help:"Where it ends; else at the end."`
	Silence   bool          `help:"Cut what is silent at both ends."`
	Keep      time.Duration `help:"How much of that silence stays; else 100ms."`
	Threshold float64       `help:"Level in dB below which it is silent; else -45." placeholder:"DB"`
	editForm
}

// Run cuts.
func (c *mediaTrimCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	if c.Start == 0 && c.End == 0 && !c.Silence {
		return fmt.Errorf("media trim needs --from, --to or --silence: %w", errUsage)
	}
	if c.From.recordingID != "" && c.To == nil {
		return fmt.Errorf("media trim of a recording needs the ACCOUNT/ID that it becomes: %w", errUsage)
	}
	api, err := g.client()
	if err != nil {
		return err
	}
	r := library.TrimRequest{
		From: c.From.name(), RecordingID: c.From.recordingID,
		FromMS: c.Start.Milliseconds(), ToMS: c.End.Milliseconds(),
		Silence: c.Silence, KeepMS: c.Keep.Milliseconds(), ThresholdDB: c.Threshold,
		EditForm: c.form(), IfNoneMatch: c.ifNoneMatch(),
	}
	if c.To != nil {
		r.To = c.To.name()
	}
	doc, err := api.Trim(ctx, r)
	if err != nil {
		return failed("trim", c.From, err)
	}
	return g.show(tty, "trimmed", doc)
}

type mediaSilenceCmd struct {
	Sound     sound         `arg:"" placeholder:"SOUND" help:"ACCOUNT/ID, or recording:ID of what has ended."`
	Threshold float64       `help:"Level in dB below which it is silent; else -45." placeholder:"DB"`
	Minimum   time.Duration `help:"What is shorter within it is a breath, and no silence; else 500ms."`
}

// Run says where it is silent.
func (c *mediaSilenceCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	a, err := api.Silence(ctx, library.SilenceRequest{
		Account: c.Sound.account, ID: c.Sound.id, RecordingID: c.Sound.recordingID,
		ThresholdDB: c.Threshold, MinimumMS: c.Minimum.Milliseconds(),
	})
	if err != nil {
		return failed("silence", c.Sound, err)
	}
	if g.JSON {
		return printJSON(tty.out, a)
	}
	longest := "none"
	if a.LongestMS > 0 {
		longest = lengthText(a.LongestMS) + " at " + lengthText(a.LongestAtMS)
	}
	return printFields(tty.out, [][2]string{
		{"length", lengthText(a.DurationMS)},
		{"leading", lengthText(a.LeadingMS)},
		{"trailing", lengthText(a.TrailingMS)},
		{"longest", longest},
		{"silent", lengthText(a.SilentMS) + " in all"},
		{"peak", fmt.Sprintf("%.1f dB", a.PeakDB)},
		{"level", fmt.Sprintf("%.1f dB", a.LevelDB)},
	})
}
