package client

import (
	"context"
	"net/http"
	"net/url"

	"carillon/blobstore"
)

// Verified is an item with what each of its copies is.
type Verified struct {
	Account  string `json:"account"`
	ID       string `json:"id"`
	Revision uint64 `json:"revision"`
	Size     int64  `json:"content_length"`
	SHA256   string `json:"sha256"`
	// Whole says that every copy that should be there is, and is right.
	Whole bool `json:"whole"`
	blobstore.Verification
}

// Verify lets every replica read and hash its copy of an item.
func (c *Client) Verify(ctx context.Context, account, id string) (Verified, error) {
	var v Verified
	path := "/v1/accounts/" + url.PathEscape(account) + "/media/" + url.PathEscape(id) + "/verify"
	err := c.call(ctx, http.MethodGet, path, nil, nil, &v)
	return v, err
}
