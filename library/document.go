package library

import (
	"fmt"
	"time"

	"carillon/audio"
	"carillon/blobstore"
	"carillon/library/rows"
)

// Limits of names and documents.
const (
	// MetadataEntriesMax and MetadataBytesMax bound the free metadata.
	MetadataEntriesMax = 64
	MetadataBytesMax   = 8 << 10
	// TextBytesMax bounds name and description (Kazoo: 128 characters).
	TextBytesMax = 512
	// PageLimitDefault and PageLimitMax bound one page of a listing.
	PageLimitDefault = rows.PageDefault
	PageLimitMax     = rows.PageMax
)

// Class is what a document is kept as; retention goes by it.
type Class string

// The classes of media. A document of the account system is ClassSystem,
// whatever else is said of it.
const (
	ClassSystem    Class = "system"
	ClassUpload    Class = "upload"
	ClassVoicemail Class = "voicemail"
	ClassRecording Class = "recording"
)

func classes() []Class { return []Class{ClassSystem, ClassUpload, ClassVoicemail, ClassRecording} }

// Document describes one media item: `{account}/{id}`. The JSON form is the
// public one; field names are stable.
type Document struct {
	Account string `json:"account"`
	ID      string `json:"id"`
	// Revision is the log position of the commit that wrote the document.
	Revision    uint64       `json:"revision"`
	Blob        blobstore.ID `json:"-"`
	Size        int64        `json:"content_length"`
	SHA256      string       `json:"sha256"`
	ContentType string       `json:"content_type"`
	Audio       audio.Info   `json:"audio"`
	DurationMS  int64        `json:"duration_ms"`
	Name        string       `json:"name,omitempty"`
	Description string       `json:"description,omitempty"`
	Language    string       `json:"language,omitempty"` // lower case, "en-us"
	Prompt      string       `json:"prompt_id,omitempty"`
	Source      string       `json:"media_source"` // "upload", "recording", "tts"
	// SourceID and SourceType say what made it, in the words of who did: the id
	// of a mailbox, "voicemail".
	SourceID   string `json:"source_id,omitempty"`
	SourceType string `json:"source_type,omitempty"`
	Class      Class  `json:"class"`
	// Streamable false keeps lookups from finding it; nil is true.
	Streamable *bool `json:"streamable,omitempty"`
	TTS        *TTS  `json:"tts,omitempty"`
	Truncated  bool  `json:"truncated,omitempty"`
	// Warning and Segments are those of the recording that it was.
	Warning  string            `json:"warning,omitempty"`
	Segments []Segment         `json:"segments,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	// AliasOf is the ACCOUNT/ID that this second name stands for, in listings;
	// everywhere else the item itself is found under it.
	AliasOf string `json:"alias_of,omitempty"`
	// State is "spooled" in the answer to an upload that waits for a majority,
	// and SpoolID and StatusURL are where to ask for it; "" for all others.
	State     string    `json:"state,omitempty"`
	SpoolID   string    `json:"spool_id,omitempty"`
	StatusURL string    `json:"status_url,omitempty"`
	Created   time.Time `json:"created"`
	// Modified is of the last change, Stored of the sound: retention counts from
	// there.
	Modified time.Time `json:"modified"`
	Stored   time.Time `json:"stored"`
	// Deletion is set in what was deleted and can be brought back.
	Deletion *Deletion `json:"deletion,omitempty"`
}

// TTS is what a synthesised sound says, and with whose voice.
type TTS struct {
	Text  string `json:"text"`
	Voice string `json:"voice,omitempty"` // "female/en-US"
}

// Deletion says when and why an item was deleted.
type Deletion struct {
	ID    string    `json:"id"` // tells deletions of one item apart
	Time  time.Time `json:"time"`
	Until time.Time `json:"until"` // it can be brought back
	// Reason is DeletedByRequest, DeletedByRetention, DeletedByExport or
	// DeletedByRecording.
	Reason string `json:"reason"`
}

// Sources of a document.
const (
	sourceUpload    = "upload"
	sourceRecording = "recording"
	sourceTTS       = "tts"
)

// Reasons of a deletion.
const (
	DeletedByRequest   = "request"
	DeletedByRetention = "retention"
	DeletedByExport    = "export"    // it was to be kept no longer than until it was sent
	DeletedByRecording = "recording" // a source recorded to the same name
)

// ETag is the strong validator of the item's bytes: its quoted SHA-256.
func (d Document) ETag() string { return `"` + d.SHA256 + `"` }

// RevisionTag is the strong validator of the document, which changes with every
// change of it. No digest is so short, so that conditions may name either.
func (d Document) RevisionTag() string { return fmt.Sprintf(`"%d"`, d.Revision) }

// streamable says whether lookups find the document.
func (d *Document) streamable() bool { return d.Streamable == nil || *d.Streamable }

// classOf is the class that counts for a document.
func classOf(d *Document) Class {
	switch {
	case d.Account == SystemAccount:
		return ClassSystem
	case d.Class != "" && d.Class != ClassSystem:
		return d.Class
	case d.Source == sourceRecording:
		return ClassRecording
	}
	return ClassUpload
}

// PutOptions go with an upload.
type PutOptions struct {
	// ContentType as the client declared it; the probe decides what is stored.
	ContentType string
	// Length of the body, or -1 when unknown (chunked).
	Length int64
	// IfMatch and IfNoneMatch are the conditional headers' raw values, "" for
	// none; `*` and lists of entity tags are understood.
	IfMatch, IfNoneMatch string
	// What the writer says about the item. Empty fields are taken from the
	// document that is replaced.
	Name, Description, Language, Prompt string
	Source                              string // "": upload
	SourceID, SourceType                string
	Class                               Class // "": by Source
	Streamable                          *bool
	TTS                                 *TTS
	Metadata                            map[string]string
}

// Patch changes the editable fields of a document; nil fields stay. A
// metadata key with the value "" is removed.
type Patch struct {
	Name        *string           `json:"name,omitempty"`
	Description *string           `json:"description,omitempty"`
	Language    *string           `json:"language,omitempty"`
	Prompt      *string           `json:"prompt_id,omitempty"`
	Source      *string           `json:"media_source,omitempty"`
	SourceID    *string           `json:"source_id,omitempty"`
	SourceType  *string           `json:"source_type,omitempty"`
	Class       *Class            `json:"class,omitempty"`
	Streamable  *bool             `json:"streamable,omitempty"`
	TTS         *TTS              `json:"tts,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	IfMatch     string            `json:"-"`
}

// ListQuery selects documents of one account. Zero fields select everything.
type ListQuery struct {
	Prefix, After, Language, Prompt string
	Class                           Class
	// Name selects documents whose name holds the text, in any case.
	Name string
	// Deleted lists what was deleted and can be brought back, instead.
	Deleted bool
	Limit   int // 0: PageLimitDefault
}

// Page is one page of a listing; Next is the After of the following page, ""
// at the end. Of deleted documents it is an opaque text.
type Page struct {
	Items []Document `json:"items"`
	Next  string     `json:"next,omitempty"`
}

// Consistency says how fresh a read must be (design section 3).
type Consistency string

// The levels of consistency. Fresh is the default: answer at once from this
// node if the item is here, else ask the leader how far it is, catch up to
// that and look again before saying that there is none.
const (
	Local        Consistency = "local"
	Fresh        Consistency = "fresh"
	Linearizable Consistency = "linearizable"
)
