package library

import (
	"time"

	"carillon/audio"
	"carillon/blobstore"
)

// State is where a recording is in its life:
// waiting → live → sealed | truncated → stored | discarded.
type State string

// The states of a recording.
const (
	StateWaiting   State = "waiting"   // the ticket is out, no source yet
	StateLive      State = "live"      // a source is sending
	StateSealed    State = "sealed"    // the source ended in order
	StateTruncated State = "truncated" // the source was cut off; what came is kept
	StateStored    State = "stored"    // it is an item now
	StateDiscarded State = "discarded"
)

// Recording is one SHOUT ingest, from its ticket on.
type Recording struct {
	ID       string       `json:"id"`
	Account  string       `json:"account"`
	Name     string       `json:"name"` // media name, extension included: "greeting.mp3"
	State    State        `json:"state"`
	Revision uint64       `json:"revision"`
	Blob     blobstore.ID `json:"-"`
	// Token is the password of the ticket. It is only set in the answer to
	// CreateRecording.
	Token string `json:"-"`
	TicketLimits
	// Node is the id of the node whose source is or was live.
	Node        string            `json:"node,omitempty"`
	ContentType string            `json:"content_type,omitempty"`
	Size        int64             `json:"content_length"`
	SHA256      string            `json:"sha256,omitempty"`
	Audio       *audio.Info       `json:"audio,omitempty"`
	DurationMS  int64             `json:"duration_ms"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	// ICY holds the source's ice-name, ice-description, ice-url … headers.
	ICY map[string]string `json:"icy,omitempty"`
	// Title is the last that its source said of what is heard.
	Title string `json:"title,omitempty"`
	// StoreAs is the item id that the recording is stored under as soon as it
	// is sealed, "" for an explicit store.
	StoreAs string `json:"store_as,omitempty"`
	// StoreURL is where it is sent as soon as it is sealed, without what may be
	// secret in it; ExportID is the last export of it.
	StoreURL string `json:"store_url,omitempty"`
	ExportID string `json:"export_id,omitempty"`
	// Item is the id it was stored under, in Account or ItemAccount.
	ItemAccount string `json:"item_account,omitempty"`
	Item        string `json:"item,omitempty"`
	// EndedBy says why it ended; "" until it has.
	EndedBy EndedBy `json:"ended_by,omitempty"`
	// Warning is "write_buffering" for what FreeSWITCH leaves of a recording
	// when it is not told enable_file_write_buffering=false; "" for none.
	Warning string `json:"warning,omitempty"`
	// Segments are set when several sources made it, one after the other.
	Segments []Segment `json:"segments,omitempty"`
	// Replaces is the recording that this one is made in place of.
	Replaces string `json:"replaces,omitempty"`
	// SpoolID is set in the answer to a file that waits for a majority, "" for
	// all others.
	SpoolID string     `json:"spool_id,omitempty"`
	Created time.Time  `json:"created"`
	Started *time.Time `json:"started,omitempty"`
	Ended   *time.Time `json:"ended,omitempty"`
	Expires *time.Time `json:"expires,omitempty"` // of a waiting ticket
}

// RecordingRequest asks for a ticket.
type RecordingRequest struct {
	Account  string            `json:"account"`
	Name     string            `json:"name"`     // "" makes one; ".mp3" is added when there is no extension
	StoreAs  string            `json:"store_as"` // store as this item when sealed
	Metadata map[string]string `json:"metadata"`
	// TTLSeconds bounds the wait for the source; 0: the configured default.
	TTLSeconds int `json:"ttl_seconds"`
	TicketLimits
	// StoreURL is sent the sound as soon as it is sealed, as export.Target says;
	// "" for an explicit store.
	StoreURL     string            `json:"store_url"`
	StoreMethod  string            `json:"store_method"`
	StoreHeaders map[string]string `json:"store_headers"`
	DeleteAfter  bool              `json:"delete_after"`
}

// TicketLimits are what a ticket asks of its source. Zero: no limit beside the
// node's own.
type TicketLimits struct {
	// MaxSeconds of sound, and MaxBytes: the recording ends there, sealed as if
	// its source had left in order, and the source is cut.
	MaxSeconds int   `json:"max_seconds,omitempty"`
	MaxBytes   int64 `json:"max_bytes,omitempty"`
	// MinMS of sound: a shorter recording is discarded when it ends, as whoever
	// sets this asked for. ended_by says so for an hour.
	MinMS int64 `json:"min_ms,omitempty"`
	// Allow are the addresses and networks ("10.0.0.7", "10.1.0.0/16") that the
	// source may come from; empty: any.
	Allow []string `json:"allow,omitempty"`
}

// EndedBy is why a recording ended.
type EndedBy string

// Why a recording ended.
const (
	EndedBySource     EndedBy = "source"      // the source left in order
	EndedByCut        EndedBy = "cut"         // its connection broke, or was closed here
	EndedByNode       EndedBy = "node_lost"   // its node died, another sealed what there was
	EndedByMaxSeconds EndedBy = "max_seconds" // of the ticket
	EndedByMaxBytes   EndedBy = "max_bytes"   // of the ticket
	EndedByNodeLimit  EndedBy = "bytes_max"   // of the node: recordings.bytes_max
	EndedByNoSpace    EndedBy = "no_space"    // the disks are full: what came is kept
	EndedByTooShort   EndedBy = "too_short"   // shorter than the ticket's min_ms: discarded
	EndedByExport     EndedBy = "exported"    // delete_after: its target has it
	EndedByRerecord   EndedBy = "rerecorded"  // another one took its place
	EndedByDiscard    EndedBy = "discarded"   // DiscardRecording
)

// WarningWriteBuffering marks a recording that holds only the silence which a
// FreeSWITCH that buffers file writes sends of a short call.
const WarningWriteBuffering = "write_buffering"

// SourceRequest is what a SHOUT source presents.
type SourceRequest struct {
	Mount string // decoded path without the leading slash
	// User, Password are a login of shout.sources, or a ticket's id and token;
	// both of a ticket are the password of a user "source".
	User, Password string
	ContentType    string
	ICY            map[string]string
	RemoteAddr     string
	// PasswordOnly is the login of SHOUTcast: Password is a line that holds
	// all, "password", "user:password", "/mount:password", or a ticket's
	// "id:token". Mount is where a source goes that names none; a ticket knows
	// its own.
	PasswordOnly bool
}

// Ending says how a source left.
type Ending int

// The endings of a source.
const (
	EndedClean Ending = iota // FIN, final chunk, or the announced length
	EndedCut                 // reset, timeout, half a body, shutdown
)

// From says where a listener of a live recording begins.
type From string

// Where a listener begins.
const (
	FromStart From = "start" // the first byte
	FromNow   From = "now"   // the live edge, less a short lead
)
