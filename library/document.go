package library

import (
	"time"

	"carillon/audio"
	"carillon/blobstore"
)

// Limits of names and documents.
const (
	// AccountBytesMax bounds an account name; Kazoo's are 32 hex digits.
	AccountBytesMax = 64
	// IDBytesMax bounds an item id (design section 5).
	IDBytesMax = 255
	// MetadataEntriesMax and MetadataBytesMax bound the free metadata.
	MetadataEntriesMax = 64
	MetadataBytesMax   = 8 << 10
	// TextBytesMax bounds name and description (Kazoo: 128 characters).
	TextBytesMax = 512
	// PageLimitDefault and PageLimitMax bound one page of a listing.
	PageLimitDefault = 100
	PageLimitMax     = 1000
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
	Source      string       `json:"media_source"` // upload, recording, tts
	Truncated   bool         `json:"truncated,omitempty"`
	// Warning and Segments are those of the recording that it was.
	Warning  string            `json:"warning,omitempty"`
	Segments []Segment         `json:"segments,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Created  time.Time         `json:"created"`
	Modified time.Time         `json:"modified"`
}

// ETag is the strong validator of the item's bytes: its quoted SHA-256.
func (d Document) ETag() string { return `"` + d.SHA256 + `"` }

// PutOptions go with an upload.
type PutOptions struct {
	// ContentType as the client declared it; the probe decides what is stored.
	ContentType string
	// Length of the body, or -1 when unknown (chunked).
	Length int64
	// IfMatch and IfNoneMatch are the conditional headers' raw values, "" for
	// none; `*` and lists of entity tags are understood.
	IfMatch, IfNoneMatch                string
	Name, Description, Language, Prompt string
	Metadata                            map[string]string
}

// Patch changes the editable fields of a document; nil fields stay. A
// metadata key with the value "" is removed.
type Patch struct {
	Name        *string           `json:"name"`
	Description *string           `json:"description"`
	Language    *string           `json:"language"`
	Prompt      *string           `json:"prompt_id"`
	Metadata    map[string]string `json:"metadata"`
	IfMatch     string            `json:"-"`
}

// ListQuery selects documents of one account. Zero fields select everything.
type ListQuery struct {
	Prefix, After, Language, Prompt string
	Limit                           int // 0: PageLimitDefault
}

// Page is one page of a listing; Next is the After of the following page, ""
// at the end.
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
