package client

import (
	"context"
	"net/http"
	"net/url"

	"carillon/library"
	"carillon/library/export"
)

// StoreRequest says what becomes of a recording: the item Account/ID, a copy at
// URL, or both.
type StoreRequest struct {
	library.StoreRequest
	export.Target
}

// Export orders a recording to be sent to a URL; if r names an item, it becomes
// that too, in the same step.
func (c *Client) Export(ctx context.Context, recordingID string, r StoreRequest) (export.Order, error) {
	var e export.Order
	err := c.call(ctx, http.MethodPost, recordingPath(recordingID)+"/store", nil, r, &e)
	return e, err
}

// ExportItem orders the sound of an item to be sent to a URL.
func (c *Client) ExportItem(ctx context.Context, r library.ItemExport) (export.Order, error) {
	var e export.Order
	err := c.callIf(ctx, http.MethodPost, "/v1/exports", nil, r.IfMatch, "", r, &e)
	return e, err
}

// Exports returns a page of the exports that q selects and the after of the
// next page, "" at the end.
func (c *Client) Exports(ctx context.Context, q export.Query) ([]export.Order, string, error) {
	v := query(q.Limit, map[string]string{
		"account": q.Account, "state": string(q.State), "after": q.After,
	})
	return listPage[export.Order](ctx, c, "/v1/exports", v)
}

// RetryExport tries an export again at once.
func (c *Client) RetryExport(ctx context.Context, id string) (export.Order, error) {
	var e export.Order
	err := c.call(ctx, http.MethodPost, exportPath(id)+"/retry", nil, nil, &e)
	return e, err
}

// RemoveExport takes an export back.
func (c *Client) RemoveExport(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, exportPath(id), nil, nil, nil)
}

func exportPath(id string) string { return "/v1/exports/" + url.PathEscape(id) }
