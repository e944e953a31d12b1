package library

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"carillon/blobstore"
	"carillon/library/delivery"
	"carillon/library/export"
	"carillon/library/feed"
	"carillon/library/station"
	"carillon/library/webhook"
)

// Config of the library. The TOML keys and environment names are made in
// cmd/appliance; defaults are the constants beside.
type Config struct {
	UploadBytesMax    int64         // largest PUT
	RecordingBytesMax int64         // largest recording; beyond it the source is cut and sealed
	TicketTTL         time.Duration // how long a ticket waits for its source
	// TakeoverGrace is how long after a cut a source with the same ticket goes
	// on with the recording; 0: never.
	TakeoverGrace time.Duration
	// TakeoverQuiet is how long a live source must have been silent before
	// that; 0: TakeoverQuietDefault.
	TakeoverQuiet   time.Duration
	PlayTTL         time.Duration // life of a /play token
	DefaultLanguage string        // of prompts, "en-us"
	// ShellStream is the script on the switches that PlayerShellStream runs; ""
	// is ShellStreamDefault.
	ShellStream string
	// FallbackSound is the media name that a lookup plays instead of answering
	// 404, where the account has none; "" for none.
	FallbackSound string
	// UndeleteWindow is how long what was deleted can be brought back; 0: not at
	// all.
	UndeleteWindow time.Duration
	// ExpiryInterval is the time between two looks at what is too old, by one
	// node of the cluster.
	ExpiryInterval time.Duration
	// Key signs playback tokens; equal on all nodes (from cluster.secret), or
	// empty: one is made once and kept in the catalog.
	Key []byte
	// AcceptKeys are keys of URLs that were signed before Key was changed, or by
	// nodes that have not changed it yet.
	AcceptKeys [][]byte
	// HTTPURL and ShoutHost are what clients reach this node under:
	// "http://10.0.0.1:8080", "10.0.0.1:8000".
	HTTPURL   string
	ShoutHost string
	Sources   []SourceAccount
	// SourcesMax bounds the live sources of this node.
	SourcesMax int
	// FormsDir is where converted forms are kept, at most FormsBytesMax of them
	// (0: forms.BytesMaxDefault); "": each is made for whoever asks.
	FormsDir      string
	FormsBytesMax int64
	// Burst is how much sound a listener of a continuous stream, or of a live
	// recording from now, is ahead; 0: BurstDefault.
	Burst time.Duration
	// BehindMax is how far a listener of them may fall behind; 0:
	// BehindMaxDefault.
	BehindMax time.Duration
	// StationIdle is how long a continuous stream outlives its last listener;
	// 0: StationIdleDefault.
	StationIdle time.Duration
	// EventsKept and EventsMax bound the history of the change feed: events
	// that are older, and more than so many, are trimmed.
	EventsKept time.Duration
	EventsMax  int
	// SpoolWait is how long an upload waits for a leader before it is spooled.
	SpoolWait time.Duration
}

// SourceAccount is a configured source login, for sources without a ticket.
type SourceAccount struct {
	User     string
	Password string // compared in constant time
	Account  string // recordings land here
}

// Deps are the parts the library stands on.
type Deps struct {
	NodeID  string
	Writer  blobstore.Writer
	Shelf   blobstore.Shelf
	Catalog blobstore.Catalog
	Log     *slog.Logger
	Metrics prometheus.Registerer
	// Gone says whether a node has been away for so long that its live
	// recordings are sealed by others. nil: never.
	Gone func(nodeID string) bool
	// Sender sends webhooks and exports. nil: none are sent, and asking for
	// them is ErrUnavailable.
	Sender delivery.Sender
	// Room says whether the disks still take what a source sends:
	// blobstore.ErrNoSpace if not. It is asked at every write. nil: always.
	Room func() error
	// Spool keeps what the cluster cannot take; nil: it is refused.
	Spool *blobstore.Spool
	// Led says whether the cluster can take writes, as far as this node knows.
	// nil: unknown, and a write that takes longer than SpoolWait is spooled.
	Led func() bool
}

// Service is what the doors see of a Library; they declare the part they use
// as an interface of their own. It stands here so that one place lists it all.
type Service interface {
	// Put stores body as {account}/{id}, replacing what was there, and says
	// whether it was new. It returns when a majority holds sound and document
	// durably. Nothing becomes visible before that, and nothing on error.
	Put(ctx context.Context, account, id string, body io.Reader, opts PutOptions) (Document, bool, error)
	// Get returns the document of {account}/{id}.
	Get(ctx context.Context, account, id string, c Consistency) (Document, error)
	// OpenItem opens the bytes of a document.
	OpenItem(ctx context.Context, doc Document) (*blobstore.Reader, error)
	// Delete removes the item; ErrNotFound when there is none.
	Delete(ctx context.Context, account, id, ifMatch string) error
	// Update changes the document's editable fields.
	Update(ctx context.Context, account, id string, p Patch) (Document, error)
	// List returns documents in the order of their ids.
	List(ctx context.Context, account string, q ListQuery) (Page, error)

	// Account returns the settings of an account.
	Account(ctx context.Context, account string, c Consistency) (AccountSettings, error)
	// UpdateAccount changes an account's settings.
	UpdateAccount(ctx context.Context, account, ifMatch string, edit func(*AccountSettings) error) (
		AccountSettings, error)
	// DeleteAccount forgets an account's settings; its media stay.
	DeleteAccount(ctx context.Context, account, ifMatch string) error
	// Accounts lists the accounts that have media or settings.
	Accounts(ctx context.Context, after string, limit int) ([]AccountSettings, string, error)

	// Copy makes another item of an item's sound, without moving bytes.
	Copy(ctx context.Context, r CopyRequest) (Document, error)
	// Rename gives an item another name in one commit.
	Rename(ctx context.Context, r CopyRequest) (Document, error)
	// Alias gives an item a second name.
	Alias(ctx context.Context, r AliasRequest) (Document, error)
	// Undelete brings back what was deleted.
	Undelete(ctx context.Context, r UndeleteRequest) (Document, error)
	// Uses finds the places that lead to an item.
	Uses(ctx context.Context, account, id string) (Uses, error)
	// Purge deletes for good.
	Purge(ctx context.Context, account, id, ifMatch string) error
	// Expiring is what an account's retention would delete.
	Expiring(ctx context.Context, account string, q ExpiryQuery) (Expiry, error)
	// LastReaped is what the last pass over what is too old did.
	LastReaped(ctx context.Context) (Reaped, error)
	// Usage counts an account's media.
	Usage(ctx context.Context, account string) (AccountUsage, error)

	// Lookup finds where a media name is played.
	Lookup(ctx context.Context, r LookupRequest) (Lookup, error)
	// Playing finds what the path of a door plays, and the extension that asks
	// for another form of it.
	Playing(ctx context.Context, account, id string) (m Mount, ext string, err error)
	// Render says what a document, or an ended recording, is in a form, and
	// OpenRendition opens its bytes.
	Render(ctx context.Context, d *Document, f Form) (Rendition, error)
	RenderRecording(ctx context.Context, r *Recording, f Form) (Rendition, error)
	OpenRendition(ctx context.Context, r Rendition) (*blobstore.Reader, error)
	// LiveGain is by how many dB a recording in progress is to be louder.
	LiveGain(ctx context.Context, account string, f Form) (float64, error)
	// ListenURL is where a recording is heard while it grows.
	ListenURL(r Recording) string
	// Prompts lists the prompts of an account, or what a language lacks.
	Prompts(ctx context.Context, account string, q PromptQuery) (PromptPage, error)
	// Languages counts the prompts of an account by language.
	Languages(ctx context.Context, account string) ([]LanguageCount, error)
	// LookupAll answers many lookups.
	LookupAll(ctx context.Context, rs []LookupRequest) ([]LookupResult, error)
	// Tune starts, or joins, the continuous stream of an item, an ended recording
	// or a playlist.
	Tune(ctx context.Context, account, id string, f Form) (station.Tuned, error)
	// OpenStream says which continuous stream a /play token is of, if it is of one.
	OpenStream(ctx context.Context, token string) (account, id string, ok bool, err error)
	// The playlists of an account; see Playlist.
	Playlist(ctx context.Context, account, id string) (Playlist, error)
	PutPlaylist(ctx context.Context, p Playlist, ifMatch, ifNoneMatch string) (Playlist, bool, error)
	DeletePlaylist(ctx context.Context, account, id, ifMatch string) error
	ListPlaylists(ctx context.Context, account, after string, limit int) ([]Playlist, string, error)
	// MayListen says whether somebody may play what is not signed for.
	MayListen(ctx context.Context, w Listening) error
	// OpenPlay checks a /play token against id and returns the pinned document.
	OpenPlay(ctx context.Context, token string) (Document, error)

	// CreateRecording makes a ticket.
	CreateRecording(ctx context.Context, r RecordingRequest) (Recording, error)
	// Recording returns a recording; of a live one with its present size.
	Recording(ctx context.Context, id string) (Recording, error)
	// ListRecordings returns the recordings of an account ("" for all) in the
	// order of their ids.
	ListRecordings(ctx context.Context, account, after string, limit int) ([]Recording, string, error)
	// StoreRecording makes the ended recording an item without moving bytes,
	// in one commit.
	StoreRecording(ctx context.Context, recordingID string, r StoreRequest) (Document, error)
	// ExportRecording orders the sound of an ended recording to be sent to a
	// URL, and, with store, makes it an item in the same step.
	ExportRecording(ctx context.Context, recordingID string, t export.Target,
		store *StoreRequest) (export.Order, error)
	// ExportItem orders the sound of an item to be sent to a URL.
	ExportItem(ctx context.Context, r ItemExport) (export.Order, error)
	// Exports lists exports in the order in which they were made.
	Exports(ctx context.Context, q export.Query) ([]export.Order, string, error)
	// Export returns an export.
	Export(ctx context.Context, id string) (export.Order, error)
	// RetryExport tries an export again at once.
	RetryExport(ctx context.Context, id string) (export.Order, error)
	// RemoveExport takes an export back.
	RemoveExport(ctx context.Context, id string) error
	// Join makes an item of parts, and says whether it is new.
	Join(ctx context.Context, r JoinRequest) (Document, bool, error)
	// Trim cuts an item, or an ended recording into an item.
	Trim(ctx context.Context, r TrimRequest) (Document, bool, error)
	// Silence says where a sound is silent.
	Silence(ctx context.Context, r SilenceRequest) (SilenceAnswer, error)
	// DiscardRecording ends and frees a recording in any state but stored.
	DiscardRecording(ctx context.Context, recordingID string) error
	// Rerecord makes a fresh ticket in place of a recording that has ended.
	Rerecord(ctx context.Context, recordingID string) (Recording, error)
	// IngestRecording stores a file as the sound of a waiting recording, and
	// says whether it was this call that did.
	IngestRecording(ctx context.Context, r IngestRequest, body io.Reader) (Recording, bool, error)
	// RecordURL is the shout:// URL for a ticket (the Token must be set).
	RecordURL(r Recording) string
	// SourceAccount is the account of a login of shout.sources.
	SourceAccount(user, password string) (account string, ok bool)

	// Claim checks a source's credentials and mount, turns the ticket (or the
	// configured account) into a live recording, and returns the session that
	// takes its bytes. ErrUnauthorized, ErrNotFound, ErrTicketUsed,
	// ErrMountInUse, ErrLimit, ErrUnavailable.
	Claim(ctx context.Context, r SourceRequest) (*Session, error)
	// Mount finds what {account}/{id} plays: a stored item, else the newest
	// recording of that account under that name that is live or ended.
	Mount(ctx context.Context, account, id string) (Mount, error)
	// OpenRecording opens a recording's bytes. A live one is followed to its
	// end, or until ctx ends.
	OpenRecording(ctx context.Context, recordingID string, from From) (*blobstore.Reader, Recording, error)

	// Events returns the next events after a position.
	Events(ctx context.Context, q feed.Query, limit int) (feed.Page, error)
	// EventsNow is the position after everything that this node has applied.
	EventsNow() feed.Position
	// WatchEvents returns a channel that is closed when an event comes.
	WatchEvents() (changed <-chan struct{}, cancel func())

	// PutWebhook makes a webhook or changes it, and says whether it is new.
	PutWebhook(ctx context.Context, id string, r webhook.Request) (webhook.Status, bool, error)
	// Webhook returns a webhook and how it does.
	Webhook(ctx context.Context, id string) (webhook.Status, error)
	// Webhooks lists all, in the order of their ids.
	Webhooks(ctx context.Context) ([]webhook.Status, error)
	// TestWebhook posts a delivery without events and tells what came of it.
	TestWebhook(ctx context.Context, id string) (webhook.Trial, error)
	// DeleteWebhook removes a webhook; ErrNotFound when there is none.
	DeleteWebhook(ctx context.Context, id string) error
}

// Mount is what a path of the SHOUT port or of /media stands for: one of its fields is set.
type Mount struct {
	Doc       *Document
	Recording *Recording
	Playlist  *Playlist
}

// LookupRequest asks where a name is played.
type LookupRequest struct {
	Name, Account, Language string
	Stream                  string // "new" (default) or "extant"
	Protocol                string // "http" (default) or "shout"
	Player                  Player // "": PlayerHTTPCache, or PlayerShout by protocol
	Consistency             Consistency
}

// Lookup is the answer.
type Lookup struct {
	StreamURL string `json:"stream_url"`
	// FreeSWITCH is the ready file string for playback().
	FreeSWITCH  string `json:"freeswitch"`
	Type        string `json:"type"` // content type
	Account     string `json:"account,omitempty"`
	ID          string `json:"id,omitempty"`
	Revision    uint64 `json:"revision,omitempty"`
	SHA256      string `json:"sha256,omitempty"`
	Language    string `json:"language,omitempty"`
	DurationMS  int64  `json:"duration_ms"`
	RecordingID string `json:"recording_id,omitempty"` // when a recording in progress is played
	// Player is the module that FreeSWITCH is for. It is not the wished one if
	// that cannot play the item: mod_shout a recording that is live, only.
	Player Player `json:"player,omitempty"`
	// Fallback says that this is played because what was asked for is not there.
	Fallback bool `json:"fallback,omitempty"`
	// Parts are the answers of a macro's parts.
	Parts []Lookup `json:"parts,omitempty"`
}
