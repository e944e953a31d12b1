package feed

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"carillon/blobstore"
	"carillon/library/fault"
	"carillon/library/naming"
	"carillon/library/rows"
)

// Prefix starts the keys of the change feed:
// e1/{log position, 16 hex digits}/{number within the commit, 2}. An event is
// written by the commit that it tells of, so none is lost, none is told of
// what did not happen, and all nodes have the same in the same order.
const Prefix = "e1/"

const (
	// DetailBytesMax bounds the free text of an event: a sentence with an
	// error in it.
	DetailBytesMax = 256
	// EventBytesMax bounds one event as it is stored: an id of 255 bytes and a
	// detail of 256, of which JSON may make six each, and the rest.
	EventBytesMax = 4 << 10
)

// Kind says what happened.
type Kind string

// The kinds of events. What a consumer does not know it must pass over: more
// will come.
const (
	RecordingStarted   Kind = "recording.started"   // a source is sending
	RecordingSealed    Kind = "recording.sealed"    // it ended in order
	RecordingTruncated Kind = "recording.truncated" // it was cut off; what came is kept
	RecordingStored    Kind = "recording.stored"    // it is the item Account/ID now
	RecordingDiscarded Kind = "recording.discarded"
	// RecordingFailed tells of a recording that ended and cannot be
	// stored: it holds no audio. It comes beside sealed or truncated.
	RecordingFailed Kind = "recording.failed"

	MediaCreated   Kind = "media.created"
	MediaReplaced  Kind = "media.replaced" // other sound
	MediaChanged   Kind = "media.changed"  // other fields, the same sound
	MediaDeleted   Kind = "media.deleted"
	MediaUndeleted Kind = "media.undeleted"

	ExportDone   Kind = "export.done"
	ExportFailed Kind = "export.failed" // given up; it is tried no more by itself
)

// Kinds lists all kinds of this release.
func Kinds() []Kind {
	return []Kind{
		RecordingStarted, RecordingSealed, RecordingTruncated, RecordingStored,
		RecordingDiscarded, RecordingFailed,
		MediaCreated, MediaReplaced, MediaChanged, MediaDeleted, MediaUndeleted,
		ExportDone, ExportFailed,
	}
}

// Position is the place of an event in the feed: the log position of its
// commit, and its number among the events of that commit. It is the same on
// all nodes. The zero position is before all events.
type Position struct {
	Revision uint64
	Number   int
}

// String returns "4711.0".
func (p Position) String() string {
	return strconv.FormatUint(p.Revision, 10) + "." + strconv.Itoa(p.Number)
}

// After says whether p comes after q.
func (p Position) After(q Position) bool {
	return p.Revision > q.Revision || p.Revision == q.Revision && p.Number > q.Number
}

// MarshalText implements encoding.TextMarshaler.
func (p Position) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Position) UnmarshalText(text []byte) error {
	parsed, err := ParsePosition(string(text))
	*p = parsed
	return err
}

// ParsePosition reads what String wrote. A bare log position means: after
// everything of that commit. It returns fault.ErrBadRequest.
func ParsePosition(s string) (Position, error) {
	revision, number, dotted := strings.Cut(s, ".")
	p := Position{Number: blobstore.TxnOpsMax}
	var err error
	if p.Revision, err = strconv.ParseUint(revision, 10, 64); err == nil && dotted {
		p.Number, err = strconv.Atoi(number)
	}
	if err != nil || p.Number < 0 || p.Number > blobstore.TxnOpsMax {
		return Position{}, fmt.Errorf("event position %s, want a number like 4711 or 4711.0: %w",
			naming.Shown(s), fault.ErrBadRequest)
	}
	if p.Revision == 0 {
		p.Number = 0
	}
	return p, nil
}

// Event is one change that others may want to know of. The JSON form is the
// public one.
type Event struct {
	Position Position  `json:"position"`
	Kind     Kind      `json:"kind"`
	Time     time.Time `json:"time"`
	// Account and ID name the item; of a recording's event the account it was
	// made in, and the item it was stored as.
	Account     string `json:"account"`
	ID          string `json:"id,omitempty"`
	RecordingID string `json:"recording_id,omitempty"`
	// Revision is that of the document or recording after the change; of one
	// that was deleted, its last.
	Revision   uint64 `json:"revision"`
	SHA256     string `json:"sha256,omitempty"`
	Size       int64  `json:"content_length,omitempty"`
	DurationMS int64  `json:"duration_ms,omitempty"`
	// Node is the id of the node where it happened, if that means something.
	Node   string `json:"node,omitempty"`
	Detail string `json:"detail,omitempty"`
	// Warning is that of a recording, like WarningWriteBuffering.
	Warning string `json:"warning,omitempty"`
}

// eventRow is an Event as it lies in the catalog: its position is in the key.
type eventRow struct {
	Kind       Kind   `json:"k"`
	TimeMS     int64  `json:"t"`
	Account    string `json:"ac,omitempty"`
	ID         string `json:"id,omitempty"`
	Recording  string `json:"r,omitempty"`
	Revision   uint64 `json:"v,omitempty"` // absent: the row's own
	SHA256     string `json:"h,omitempty"`
	Size       int64  `json:"n,omitempty"`
	DurationMS int64  `json:"d,omitempty"`
	Node       string `json:"nd,omitempty"`
	Detail     string `json:"x,omitempty"`
	Warning    string `json:"w,omitempty"`
}

func encode(e *Event) ([]byte, error) {
	value, err := rows.Encode(eventRow{
		Kind: e.Kind, TimeMS: e.Time.UnixMilli(), Account: e.Account, ID: e.ID, Recording: e.RecordingID,
		Revision: e.Revision, SHA256: e.SHA256, Size: e.Size, DurationMS: e.DurationMS, Node: e.Node,
		Detail: e.Detail, Warning: e.Warning,
	})
	if err == nil && len(value) > EventBytesMax {
		err = fmt.Errorf("event of %d bytes: %w", len(value), blobstore.ErrTooLarge)
	}
	return value, err
}

func decode(row blobstore.Row) (Event, error) {
	revision, number, err := blobstore.ParseAppendedKey(Prefix, row.Key)
	if err != nil {
		return Event{}, fmt.Errorf("event: %w", err)
	}
	var r eventRow
	if err := rows.Decode(row.Value, &r); err != nil {
		return Event{}, fmt.Errorf("event %d.%d: %w", revision, number, err)
	}
	if r.Revision == 0 {
		r.Revision = revision
	}
	return Event{
		Position: Position{revision, number}, Kind: r.Kind, Time: rows.FromMS(r.TimeMS),
		Account: r.Account, ID: r.ID, RecordingID: r.Recording, Revision: r.Revision, SHA256: r.SHA256,
		Size: r.Size, DurationMS: r.DurationMS, Node: r.Node, Detail: r.Detail,
		Warning: r.Warning,
	}, nil
}

// Add adds an event to what a change commits: it costs no commit of its own, and
// happens exactly if the change does. Position is given by the log; Time is now
// unless set; Revision 0 means that of this commit. A detail that is too long
// is cut.
func Add(c *rows.Change, kind Kind, e Event) {
	e.Kind = kind
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Detail = Detail(e.Detail)
	value, err := encode(&e)
	c.Fail(err)
	c.Append(Prefix, value)
}

// Detail is a free text as an event may hold it: UTF-8 of at most
// DetailBytesMax.
func Detail(text string) string {
	text = strings.ToValidUTF8(text, "?")
	for len(text) > DetailBytesMax {
		_, last := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-last]
	}
	return text
}
