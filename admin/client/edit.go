package client

import (
	"context"
	"net/http"
	"net/url"

	"carillon/library"
)

// Join makes an item of parts.
func (c *Client) Join(ctx context.Context, r library.JoinRequest) (library.Document, error) {
	var doc library.Document
	err := c.call(ctx, http.MethodPost, "/v1/media/join", nil, r, &doc)
	return doc, err
}

// Trim cuts an item, or a recording into an item.
func (c *Client) Trim(ctx context.Context, r library.TrimRequest) (library.Document, error) {
	var doc library.Document
	err := c.call(ctx, http.MethodPost, "/v1/media/trim", nil, r, &doc)
	return doc, err
}

// Silence says where an item is silent.
func (c *Client) Silence(ctx context.Context, account, id string) (library.SilenceAnswer, error) {
	var a library.SilenceAnswer
	v := url.Values{"account": {account}, "id": {id}}
	err := c.call(ctx, http.MethodGet, "/v1/media/silence", v, nil, &a)
	return a, err
}

// Rerecord makes a fresh ticket in place of a recording that has ended.
func (c *Client) Rerecord(ctx context.Context, recordingID string) (Recording, error) {
	var rec Recording
	err := c.call(ctx, http.MethodPost, recordingPath(recordingID)+"/rerecord", nil, nil, &rec)
	return rec, err
}
