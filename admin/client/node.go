package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"carillon/library"
)

// Recording is a recording with its addresses.
type Recording struct {
	library.Recording
	// RecordURL holds the ticket's secret; only CreateRecording returns it.
	RecordURL string `json:"record_url,omitempty"`
	// RecordURLHTTP is where a file may be PUT instead.
	RecordURLHTTP string   `json:"record_url_http,omitempty"`
	PlayURLs      PlayURLs `json:"play_urls"`
}

// PlayURLs are where a recording is heard, from its start and from now, also
// while it is made.
type PlayURLs struct {
	HTTP     string `json:"http"`
	HTTPNow  string `json:"http_now"`
	Shout    string `json:"shout"`
	ShoutNow string `json:"shout_now"`
}

// CreateRecording makes a ticket for one recording.
func (c *Client) CreateRecording(ctx context.Context, r library.RecordingRequest) (Recording, error) {
	var rec Recording
	err := c.call(ctx, http.MethodPost, "/v1/recordings", nil, r, &rec)
	return rec, err
}

// Recording returns a recording.
func (c *Client) Recording(ctx context.Context, id string) (Recording, error) {
	var rec Recording
	err := c.call(ctx, http.MethodGet, recordingPath(id), nil, nil, &rec)
	return rec, err
}

// Recordings returns a page of the recordings of an account ("" for all) and
// the after of the next page, "" at the end. Limit 0 is the server's default.
func (c *Client) Recordings(
	ctx context.Context, account, after string, limit int,
) (page []Recording, next string, err error) {
	v := query(limit, map[string]string{"account": account, "after": after})
	return listPage[Recording](ctx, c, "/v1/recordings", v)
}

// Store makes a recording the item {account}/{id}.
func (c *Client) Store(ctx context.Context, recordingID, account, id string) (library.Document, error) {
	var doc library.Document
	err := c.call(ctx, http.MethodPost, recordingPath(recordingID)+"/store", nil,
		map[string]string{"account": account, "id": id}, &doc)
	return doc, err
}

// Discard ends and frees a recording.
func (c *Client) Discard(ctx context.Context, recordingID string) error {
	return c.call(ctx, http.MethodPost, recordingPath(recordingID)+"/discard", nil, nil, nil)
}

func recordingPath(id string) string { return "/v1/recordings/" + url.PathEscape(id) }

// ClusterStatus returns the state of the cluster as the node sees it: the raw
// JSON for programs and, unless out is nil, decoded into out.
func (c *Client) ClusterStatus(ctx context.Context, out any) (json.RawMessage, error) {
	var raw json.RawMessage
	if err := c.call(ctx, http.MethodGet, "/v1/cluster", nil, nil, &raw); err != nil {
		return nil, err
	}
	if out == nil {
		return raw, nil
	}
	return raw, json.Unmarshal(raw, out)
}

// Version names the build that answers.
type Version struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
}

// Version asks which build the node runs.
func (c *Client) Version(ctx context.Context) (Version, error) {
	var v Version
	err := c.call(ctx, http.MethodGet, "/v1/version", nil, nil, &v)
	return v, err
}

// Alive returns nil when the node's process answers.
func (c *Client) Alive(ctx context.Context) error {
	return c.call(ctx, http.MethodGet, "/healthz", nil, nil, nil)
}

// Health returns nil when the node is ready to serve, else an error that is
// library.ErrUnavailable and says why.
func (c *Client) Health(ctx context.Context) error {
	return c.call(ctx, http.MethodGet, "/readyz", nil, nil, nil)
}
