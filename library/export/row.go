package export

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"carillon/blobstore"
	"carillon/library/delivery"
	"carillon/library/fault"
	"carillon/library/naming"
	"carillon/library/rows"
)

// jobRow is an export as it lies in the catalog. Its URL and headers are
// there as they are sent, credentials included: who reads the catalog's disk
// reads the sound as well.
type jobRow struct {
	Account     string            `json:"ac"`
	Recording   string            `json:"r"`
	Item        string            `json:"i,omitempty"`
	Blob        string            `json:"b"`
	URL         string            `json:"url"`
	Method      string            `json:"me"`
	Headers     map[string]string `json:"hd,omitempty"`
	DeleteAfter bool              `json:"da,omitempty"`
	State       State             `json:"st"`
	ContentType string            `json:"t"`
	Size        int64             `json:"n"`
	SHA256      string            `json:"h"`
	Attempts    int               `json:"at,omitempty"`
	Error       string            `json:"er,omitempty"`
	Node        string            `json:"nd,omitempty"`
	CreatedMS   int64             `json:"c"`
	SinceMS     int64             `json:"s"`
	DueMS       int64             `json:"du,omitempty"`
	EndedMS     int64             `json:"e,omitempty"`
}

func encode(e *Job) ([]byte, error) {
	return rows.Encode(jobRow{
		Account: e.Account, Recording: e.RecordingID, Item: e.Item, Blob: e.Blob.String(), URL: e.url,
		Method: e.Method, Headers: e.headers, DeleteAfter: e.DeleteAfter, State: e.State,
		ContentType: e.ContentType, Size: e.Size, SHA256: e.SHA256, Attempts: e.Attempts, Error: e.Error,
		Node: e.Node, CreatedMS: e.Created.UnixMilli(), SinceMS: e.since.UnixMilli(), DueMS: e.due.UnixMilli(),
		EndedMS: rows.ToMS(e.Ended),
	})
}

func decode(id string, row blobstore.Row) (*Job, error) {
	var r jobRow
	if err := rows.Decode(row.Value, &r); err != nil {
		return nil, fmt.Errorf("export %s: %w", id, err)
	}
	blob, err := blobstore.ParseID(r.Blob)
	if err != nil {
		return nil, fmt.Errorf("export %s: %w", id, err)
	}
	e := &Job{
		Order: Order{
			ID: id, Account: r.Account, RecordingID: r.Recording, Item: r.Item,
			Target: delivery.ShownURL(r.URL), Method: r.Method,
			Headers: headerNames(r.Headers), DeleteAfter: r.DeleteAfter, State: r.State, Revision: row.Revision,
			ContentType: r.ContentType, Size: r.Size, SHA256: r.SHA256, Attempts: r.Attempts, Error: r.Error,
			Node: r.Node, Created: rows.FromMS(r.CreatedMS), Ended: rows.FromMSPtr(r.EndedMS),
		},
		Blob: blob, url: r.URL, headers: r.Headers, due: rows.FromMS(r.DueMS), since: rows.FromMS(r.SinceMS),
	}
	if e.State == Queued {
		due := e.due
		e.NextTry = &due
	}
	return e, nil
}

// Job returns the export as this node knows it, or fault.ErrNotFound.
func (q *Queue) Job(ctx context.Context, id string) (*Job, error) {
	if !rows.IsID(id) {
		return nil, fmt.Errorf("export %s: %w", naming.Shown(id), fault.ErrNotFound)
	}
	row, err := q.deps.Rows.Get(ctx, Prefix+id)
	if err != nil {
		return nil, rows.NotFound(err, "export", id)
	}
	return decode(id, row)
}

// encodeOpen is the value of a row in the index of open exports: its state's
// first letter, and when somebody must look at it, so that a look at all of
// them decodes none.
func encodeOpen(state State, due time.Time) []byte {
	return rows.EncodeText(string(state[:1]) + strconv.FormatInt(due.UnixMilli(), 10))
}

func decodeOpen(value []byte) (state State, due time.Time, err error) {
	text, err := rows.DecodeText(value)
	if err != nil {
		return "", time.Time{}, err
	}
	for _, s := range []State{Queued, Running, Failed} {
		if len(text) < 2 || text[:1] != string(s[:1]) {
			continue
		}
		ms, err := strconv.ParseInt(text[1:], 10, 64)
		if err != nil {
			break
		}
		return s, rows.FromMS(ms), nil
	}
	return "", time.Time{}, fmt.Errorf("open export %s: %w", naming.Shown(text), blobstore.ErrCorrupt)
}
