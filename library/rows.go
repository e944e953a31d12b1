package library

import (
	"cmp"
	"encoding/hex"
	"fmt"

	"carillon/audio"
	"carillon/blobstore"
	"carillon/library/delivery"
	"carillon/library/export"
	"carillon/library/rows"
)

// documentRow is a Document as it lies in the catalog: account and id are in
// the key, the revision is the row's. The JSON names are a format; golden
// files keep them.
type documentRow struct {
	Blob        string            `json:"b"`
	Size        int64             `json:"n"`
	SHA256      string            `json:"h"`
	ContentType string            `json:"t"`
	Audio       audio.Info        `json:"a"`
	Name        string            `json:"nm,omitempty"`
	Description string            `json:"ds,omitempty"`
	Language    string            `json:"l,omitempty"`
	Prompt      string            `json:"p,omitempty"`
	Source      string            `json:"s"`
	Truncated   bool              `json:"x,omitempty"`
	Metadata    map[string]string `json:"m,omitempty"`
	CreatedMS   int64             `json:"c"`
	ModifiedMS  int64             `json:"u"`
	Warning     string            `json:"wn,omitempty"`
	Segments    []segmentRow      `json:"sg,omitempty"`
	SourceID    string            `json:"si,omitempty"`
	SourceType  string            `json:"sy,omitempty"`
	Class       Class             `json:"cl,omitempty"`
	Streamable  *bool             `json:"sm,omitempty"`
	TTSText     string            `json:"tt,omitempty"`
	TTSVoice    string            `json:"tv,omitempty"`
	AliasOf     string            `json:"al,omitempty"` // with it there is no blob
	StoredMS    int64             `json:"st,omitempty"` // absent: as created
	DeletedMS   int64             `json:"dl,omitempty"`
	Deleted     string            `json:"dr,omitempty"` // why
}

func encodeDocument(d *Document) ([]byte, error) {
	r := documentRow{
		Size: d.Size, SHA256: d.SHA256, ContentType: d.ContentType, Audio: d.Audio,
		Name: d.Name, Description: d.Description, Language: d.Language, Prompt: d.Prompt, Source: d.Source,
		SourceID: d.SourceID, SourceType: d.SourceType, Class: d.Class, Streamable: d.Streamable,
		Truncated: d.Truncated, Metadata: d.Metadata, AliasOf: d.AliasOf,
		CreatedMS: d.Created.UnixMilli(), ModifiedMS: d.Modified.UnixMilli(),
		Warning: d.Warning, Segments: segmentRows(d.Segments),
	}
	if d.AliasOf == "" {
		r.Blob = d.Blob.String()
	}
	if d.TTS != nil {
		r.TTSText, r.TTSVoice = d.TTS.Text, d.TTS.Voice
	}
	if !d.Stored.IsZero() && !d.Stored.Equal(d.Created) {
		r.StoredMS = d.Stored.UnixMilli()
	}
	if d.Deletion != nil {
		r.DeletedMS, r.Deleted = d.Deletion.Time.UnixMilli(), d.Deletion.Reason
	}
	if d.Account == SystemAccount || r.Class == classOf(&Document{Source: d.Source}) {
		r.Class = "" // what it is anyhow
	}
	return rows.Encode(r)
}

func decodeDocument(account, id string, row blobstore.Row) (Document, error) {
	var r documentRow
	if err := rows.Decode(row.Value, &r); err != nil {
		return Document{}, fmt.Errorf("document %s/%s: %w", account, id, err)
	}
	d := Document{
		Account: account, ID: id, Revision: row.Revision,
		Size: r.Size, SHA256: r.SHA256, ContentType: r.ContentType,
		Audio: r.Audio, DurationMS: r.Audio.Duration().Milliseconds(),
		Name: r.Name, Description: r.Description, Language: r.Language, Prompt: r.Prompt,
		Source: r.Source, SourceID: r.SourceID, SourceType: r.SourceType, Class: r.Class, Streamable: r.Streamable,
		Truncated: r.Truncated, Metadata: r.Metadata, AliasOf: r.AliasOf,
		Created: rows.FromMS(r.CreatedMS), Modified: rows.FromMS(r.ModifiedMS),
		Warning: r.Warning, Segments: fromSegmentRows(r.Segments),
		Stored: rows.FromMS(cmp.Or(r.StoredMS, r.CreatedMS)),
	}
	d.Class = classOf(&d)
	if r.TTSText != "" || r.TTSVoice != "" {
		d.TTS = &TTS{r.TTSText, r.TTSVoice}
	}
	if r.DeletedMS != 0 {
		d.Deletion = &Deletion{Time: rows.FromMS(r.DeletedMS), Reason: r.Deleted}
	}
	if r.AliasOf != "" && r.Blob == "" {
		return d, nil
	}
	var err error
	if d.Blob, err = blobstore.ParseID(r.Blob); err != nil {
		return Document{}, fmt.Errorf("document %s/%s: %w", account, id, err)
	}
	return d, nil
}

// recordingRow is a Recording as it lies in the catalog.
type recordingRow struct {
	Account     string            `json:"ac"`
	Name        string            `json:"nm"`
	State       State             `json:"st"`
	TokenHash   string            `json:"th,omitempty"` // hex of the SHA-256; the token itself is never kept
	Configured  bool              `json:"cf,omitempty"` // by a source account: holds a live row
	Blob        string            `json:"b,omitempty"`
	Node        string            `json:"nd,omitempty"`
	ContentType string            `json:"t,omitempty"`
	Size        int64             `json:"n,omitempty"`
	SHA256      string            `json:"h,omitempty"`
	Audio       *audio.Info       `json:"a,omitempty"`
	Truncated   bool              `json:"x,omitempty"`
	Metadata    map[string]string `json:"m,omitempty"`
	ICY         map[string]string `json:"i,omitempty"`
	StoreAs     string            `json:"sa,omitempty"`
	ItemAccount string            `json:"ia,omitempty"`
	Item        string            `json:"it,omitempty"`
	CreatedMS   int64             `json:"c"`
	StartedMS   int64             `json:"s,omitempty"`
	EndedMS     int64             `json:"e,omitempty"`
	ExpiresMS   int64             `json:"ex,omitempty"`
	MaxSeconds  int               `json:"ls,omitempty"`
	MaxBytes    int64             `json:"lb,omitempty"`
	MinMS       int64             `json:"lm,omitempty"`
	Allow       []string          `json:"la,omitempty"`
	EndedBy     EndedBy           `json:"eb,omitempty"`
	Warning     string            `json:"wn,omitempty"`
	Segments    []segmentRow      `json:"sg,omitempty"`
	Yields      bool              `json:"y,omitempty"`
	ExportID    string            `json:"xi,omitempty"`
	Replaces    string            `json:"rp,omitempty"`
	Title       string            `json:"ti,omitempty"`
	Target      *targetRow        `json:"xt,omitempty"`
}

// targetRow is an export.Target as it lies in the catalog.
type targetRow struct {
	URL         string            `json:"url"`
	Method      string            `json:"me"`
	Headers     map[string]string `json:"hd,omitempty"`
	DeleteAfter bool              `json:"da,omitempty"`
}

// segmentRow is a Segment as it lies in the catalog.
type segmentRow struct {
	Offset    int64  `json:"o"`
	Node      string `json:"nd,omitempty"`
	StartedMS int64  `json:"s"`
	EndedMS   int64  `json:"e,omitempty"`
}

func segmentRows(segments []Segment) []segmentRow {
	all := make([]segmentRow, 0, len(segments))
	for _, s := range segments {
		all = append(all, segmentRow{s.Offset, s.Node, s.Started.UnixMilli(), rows.ToMS(s.Ended)})
	}
	return all
}

func fromSegmentRows(all []segmentRow) []Segment {
	if len(all) == 0 {
		return nil
	}
	segments := make([]Segment, 0, len(all))
	for _, r := range all {
		segments = append(segments, Segment{r.Offset, r.Node, rows.FromMS(r.StartedMS), rows.FromMSPtr(r.EndedMS)})
	}
	return segments
}

// stored is a recording together with what only the library may see of it.
type stored struct {
	Recording
	tokenHash  []byte // nil: no ticket
	configured bool
	truncated  bool           // survives the state stored
	yields     bool           // another source waits for the live one to end
	target     *export.Target // nil: it is not sent anywhere by itself
	how        string         // its state at its end, before it was stored
	dropped    *export.Job    // an export that its next change takes back
}

func encodeRecording(s *stored) ([]byte, error) {
	r := recordingRow{
		Account: s.Account, Name: s.Name, State: s.State,
		TokenHash: hex.EncodeToString(s.tokenHash), Configured: s.configured,
		Node: s.Node, ContentType: s.ContentType, Size: s.Size, SHA256: s.SHA256, Audio: s.Audio,
		Truncated: s.truncated, Metadata: s.Metadata, ICY: s.ICY, StoreAs: s.StoreAs,
		ItemAccount: s.ItemAccount, Item: s.Item,
		CreatedMS: s.Created.UnixMilli(), StartedMS: rows.ToMS(s.Started), EndedMS: rows.ToMS(s.Ended),
		ExpiresMS:  rows.ToMS(s.Expires),
		MaxSeconds: s.MaxSeconds, MaxBytes: s.MaxBytes, MinMS: s.MinMS, Allow: s.Allow,
		EndedBy: s.EndedBy, Warning: s.Warning, Segments: segmentRows(s.Segments), Yields: s.yields,
		ExportID: s.ExportID, Replaces: s.Replaces, Title: s.Title,
	}
	if t := s.target; t != nil {
		r.Target = &targetRow{t.URL, t.Method, t.Headers, t.DeleteAfter}
	}
	if !s.Blob.IsZero() {
		r.Blob = s.Blob.String()
	}
	return rows.Encode(r)
}

func decodeRecording(id string, row blobstore.Row) (stored, error) {
	var r recordingRow
	if err := rows.Decode(row.Value, &r); err != nil {
		return stored{}, fmt.Errorf("recording %s: %w", id, err)
	}
	s := stored{
		Recording: Recording{
			ID: id, Account: r.Account, Name: r.Name, State: r.State, Revision: row.Revision,
			Node: r.Node, ContentType: r.ContentType, Size: r.Size, SHA256: r.SHA256, Audio: r.Audio,
			Metadata: r.Metadata, ICY: r.ICY, StoreAs: r.StoreAs, ItemAccount: r.ItemAccount, Item: r.Item,
			Created: rows.FromMS(r.CreatedMS), Started: rows.FromMSPtr(r.StartedMS), Ended: rows.FromMSPtr(r.EndedMS),
			Expires:      rows.FromMSPtr(r.ExpiresMS),
			TicketLimits: TicketLimits{r.MaxSeconds, r.MaxBytes, r.MinMS, r.Allow},
			EndedBy:      r.EndedBy, Warning: r.Warning, Segments: fromSegmentRows(r.Segments),
			ExportID: r.ExportID, Replaces: r.Replaces, Title: r.Title,
		},
		configured: r.Configured,
		truncated:  r.Truncated,
		yields:     r.Yields,
	}
	if t := r.Target; t != nil {
		s.target = &export.Target{URL: t.URL, Method: t.Method, Headers: t.Headers, DeleteAfter: t.DeleteAfter}
		s.StoreURL = delivery.ShownURL(t.URL)
	}
	if r.Audio != nil {
		s.DurationMS = r.Audio.Duration().Milliseconds()
	}
	var err error
	if r.Blob != "" {
		if s.Blob, err = blobstore.ParseID(r.Blob); err != nil {
			return stored{}, fmt.Errorf("recording %s: %w", id, err)
		}
	}
	if s.tokenHash, err = hex.DecodeString(r.TokenHash); err != nil {
		return stored{}, fmt.Errorf("recording %s: token hash: %w", id, blobstore.ErrCorrupt)
	}
	return s, nil
}
