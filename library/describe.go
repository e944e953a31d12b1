package library

import (
	"cmp"
	"maps"
	"strings"
	"time"
	"unicode/utf8"

	"carillon/library/field"
	"carillon/library/naming"
)

// Limits of the descriptive fields.
const (
	// sourceBytesMax bounds source_id and source_type; Kazoo's ids have 32
	// characters.
	sourceBytesMax = 128
	// ttsTextBytesMax bounds what a synthesised sound says: a minute of speech.
	// With it, and full metadata, a row is still within blobstore.RowBytesMax.
	ttsTextBytesMax = 1 << 10
	// ttsVoiceBytesMax bounds a voice, like "female/en-US".
	ttsVoiceBytesMax = 64
)

// checkFields collects what is wrong with a document's descriptive fields.
func (c *checks) fields(d *Document) {
	c.Text("name", d.Name, TextBytesMax)
	c.Text("description", d.Description, TextBytesMax)
	c.prompt(d.Prompt, d.Language)
	c.OneOf("media_source", d.Source, sourceUpload, sourceRecording, sourceTTS)
	c.Text("source_id", d.SourceID, sourceBytesMax)
	c.Text("source_type", d.SourceType, sourceBytesMax)
	c.OneOf("class", string(d.Class), string(ClassUpload), string(ClassVoicemail), string(ClassRecording),
		string(ClassSystem))
	if d.TTS != nil {
		if len(d.TTS.Text) > ttsTextBytesMax || !utf8.ValidString(d.TTS.Text) {
			c.Fail("tts.text", field.TooLong, "must be UTF-8 of at most %d bytes", ttsTextBytesMax)
		}
		c.Text("tts.voice", d.TTS.Voice, ttsVoiceBytesMax)
	}
	if d.Source == sourceTTS && (d.TTS == nil || d.TTS.Text == "") {
		c.Fail("tts.text", field.Required, "must be given for media_source tts")
	}
	c.metadata(d.Metadata)
}

// prompt checks what stands in an index row. Both may be empty.
func (c *checks) prompt(prompt, language string) {
	c.Text("prompt_id", prompt, promptBytesMax)
	if strings.Contains(prompt, "/") {
		c.Fail("prompt_id", field.Invalid, "must not hold a slash")
	}
	c.language("language", language)
}

func (c *checks) metadata(m map[string]string) {
	if len(m) > MetadataEntriesMax {
		c.Fail("metadata", field.TooLong, "has %d entries, at most %d", len(m), MetadataEntriesMax)
	}
	size := 0
	for k, v := range m {
		size += len(k) + len(v)
		if k == "" || !naming.IsPlain(k) || !utf8.ValidString(v) {
			c.Fail("metadata", field.Invalid, "keys must be text and values UTF-8")
		}
	}
	if size > MetadataBytesMax {
		c.Fail("metadata", field.TooLong, "has %d bytes, at most %d", size, MetadataBytesMax)
	}
}

// identity refuses to make another prompt of one: switches and callers know a
// prompt by its id and language, and would silently get another sound. It may
// stop being a prompt, and a copy or a rename may be another one.
func (c *checks) identity(before, d *Document) {
	if before == nil || before.Prompt == "" || d.Prompt == "" {
		return
	}
	if before.Prompt != d.Prompt {
		c.Fail("prompt_id", field.Fixed, "is %s and stays it; copy or rename the item", naming.Shown(before.Prompt))
	}
	if before.Language != d.Language {
		c.Fail("language", field.Fixed, "of a prompt is %s and stays it; copy or rename the item",
			naming.Shown(before.Language))
	}
}

// described is the document as its writer describes it, without any sound.
func (o *PutOptions) described(account, id string) Document {
	return Document{
		Account: account, ID: id, Name: o.Name, Description: o.Description,
		Language: strings.ToLower(o.Language), Prompt: o.Prompt,
		Source: o.Source, SourceID: o.SourceID, SourceType: o.SourceType, Class: o.Class,
		Streamable: o.Streamable, TTS: o.TTS, Metadata: o.Metadata,
	}
}

// inherit fills in times, and what the writer left open, from the document
// that is replaced.
func (l *Library) inherit(d, before *Document) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	d.Created, d.Modified, d.Stored = now, now, now
	if before != nil && before.AliasOf == "" {
		d.Created = before.Created
		d.Name = cmp.Or(d.Name, before.Name)
		d.Description = cmp.Or(d.Description, before.Description)
		d.Language = cmp.Or(d.Language, before.Language)
		d.Prompt = cmp.Or(d.Prompt, before.Prompt)
		d.SourceID = cmp.Or(d.SourceID, before.SourceID)
		d.SourceType = cmp.Or(d.SourceType, before.SourceType)
		d.Streamable = cmp.Or(d.Streamable, before.Streamable)
		// What a mailbox keeps as voicemail stays that when the message is
		// replaced, also by a recording.
		if before.Class == ClassVoicemail {
			d.Class = cmp.Or(d.Class, before.Class)
		}
		if d.Metadata == nil {
			d.Metadata = before.Metadata
		}
	}
	d.Source = cmp.Or(d.Source, sourceUpload)
	d.Class = classOf(d)
	if d.Prompt != "" && d.Language == "" {
		d.Language = l.cfg.DefaultLanguage
	}
}

// apply writes the patch into d.
func (p *Patch) apply(d *Document) {
	assign := func(to, from *string) {
		if from != nil {
			*to = *from
		}
	}
	assign(&d.Name, p.Name)
	assign(&d.Description, p.Description)
	assign(&d.Language, p.Language)
	assign(&d.Prompt, p.Prompt)
	assign(&d.Source, p.Source)
	assign(&d.SourceID, p.SourceID)
	assign(&d.SourceType, p.SourceType)
	d.Language = strings.ToLower(d.Language)
	if p.Class != nil {
		d.Class = *p.Class
	}
	if p.Streamable != nil {
		d.Streamable = p.Streamable
		if *p.Streamable {
			d.Streamable = nil // the default
		}
	}
	if p.TTS != nil {
		d.TTS = p.TTS
		if *p.TTS == (TTS{}) {
			d.TTS = nil
		}
	}
	if p.Metadata != nil {
		merged := maps.Clone(d.Metadata)
		if merged == nil {
			merged = make(map[string]string, len(p.Metadata))
		}
		maps.Copy(merged, p.Metadata)
		maps.DeleteFunc(merged, func(_, v string) bool { return v == "" })
		d.Metadata = merged
	}
}

// patched is d after the patch. field.Errors for what may not be.
func (l *Library) patched(d Document, p *Patch) (Document, error) {
	before := d
	p.apply(&d)
	if d.Prompt != "" && d.Language == "" {
		d.Language = l.cfg.DefaultLanguage
	}
	d.Modified = time.Now().UTC().Truncate(time.Millisecond)
	var c checks
	c.fields(&d)
	c.identity(&before, &d)
	d.Class = classOf(&d)
	return d, c.Err()
}

// checkPrompt returns an ErrBadRequest unless the two may stand in an index row.
func checkPrompt(prompt, language string) error {
	var c checks
	c.prompt(prompt, language)
	return c.Err()
}

// checkTexts returns an ErrBadRequest unless name and description are short,
// well formed text.
func checkTexts(name, description string) error {
	var c checks
	c.Text("name", name, TextBytesMax)
	c.Text("description", description, TextBytesMax)
	return c.Err()
}

// checkMetadata returns an ErrBadRequest unless the free metadata are within
// their bounds.
func checkMetadata(m map[string]string) error {
	var c checks
	c.metadata(m)
	return c.Err()
}
