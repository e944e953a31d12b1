package client

import (
	"context"
	"net/http"
	"strconv"

	"carillon/library"
)

// Join makes an item of parts. R.IfMatch and r.IfNoneMatch are about what has its name.
func (c *Client) Join(ctx context.Context, r library.JoinRequest) (library.Document, error) {
	var doc library.Document
	err := c.callIf(ctx, http.MethodPost, "/v1/media/join", nil, r.IfMatch, r.IfNoneMatch, r, &doc)
	return doc, err
}

// Trim cuts an item, or a recording into an item.
func (c *Client) Trim(ctx context.Context, r library.TrimRequest) (library.Document, error) {
	var doc library.Document
	err := c.callIf(ctx, http.MethodPost, "/v1/media/trim", nil, r.IfMatch, r.IfNoneMatch, r, &doc)
	return doc, err
}

// Silence says where an item or an ended recording is silent.
func (c *Client) Silence(ctx context.Context, r library.SilenceRequest) (library.SilenceAnswer, error) {
	v := query(0, map[string]string{"account": r.Account, "id": r.ID, "recording_id": r.RecordingID})
	if r.ThresholdDB != 0 {
		v.Set("threshold_db", strconv.FormatFloat(r.ThresholdDB, 'g', -1, 64))
	}
	if r.MinimumMS != 0 {
		v.Set("minimum_ms", strconv.FormatInt(r.MinimumMS, 10))
	}
	var a library.SilenceAnswer
	err := c.call(ctx, http.MethodGet, "/v1/media/silence", v, nil, &a)
	return a, err
}

// Rerecord makes a fresh ticket in place of a recording that has ended.
func (c *Client) Rerecord(ctx context.Context, recordingID string) (Recording, error) {
	var rec Recording
	err := c.call(ctx, http.MethodPost, recordingPath(recordingID)+"/rerecord", nil, nil, &rec)
	return rec, err
}
