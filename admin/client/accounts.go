package client

import (
	"context"
	"net/http"
	"net/url"

	"carillon/library"
)

func accountPath(account string) string { return "/v1/accounts/" + url.PathEscape(account) }

// Account returns an account's settings, the defaults (revision 0) when nobody
// has made any.
func (c *Client) Account(ctx context.Context, account string) (library.AccountSettings, error) {
	var s library.AccountSettings
	err := c.call(ctx, http.MethodGet, accountPath(account), nil, nil, &s)
	return s, err
}

// PatchAccount changes the named settings: fields are the JSON names of
// library.AccountSettings.
func (c *Client) PatchAccount(
	ctx context.Context, account string, fields map[string]any,
) (library.AccountSettings, error) {
	var s library.AccountSettings
	err := c.call(ctx, http.MethodPatch, accountPath(account), nil, fields, &s)
	return s, err
}

// DeleteAccount forgets an account's settings; its media stay.
func (c *Client) DeleteAccount(ctx context.Context, account string) error {
	return c.call(ctx, http.MethodDelete, accountPath(account), nil, nil, nil)
}

// Accounts returns a page of the accounts that have media or settings, and the
// after of the next page, "" at the end.
func (c *Client) Accounts(
	ctx context.Context, after string, limit int,
) (page []library.AccountSettings, next string, err error) {
	v := query(limit, map[string]string{"after": after})
	return listPage[library.AccountSettings](ctx, c, "/v1/accounts", v)
}
