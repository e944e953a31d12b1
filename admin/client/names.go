package client

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"

	"carillon/library"
)

// Copy copies an item without moving bytes.
func (c *Client) Copy(ctx context.Context, r library.CopyRequest) (library.Document, error) {
	return c.copyItem(ctx, "/v1/media/copy", r)
}

// Rename gives an item another name.
func (c *Client) Rename(ctx context.Context, r library.CopyRequest) (library.Document, error) {
	return c.copyItem(ctx, "/v1/media/rename", r)
}

func (c *Client) copyItem(ctx context.Context, path string, r library.CopyRequest) (library.Document, error) {
	var doc library.Document
	err := c.callIf(ctx, http.MethodPost, path, nil, r.IfMatch, r.IfNoneMatch, r, &doc)
	return doc, err
}

// Alias gives an item a second name.
func (c *Client) Alias(ctx context.Context, r library.AliasRequest) (library.Document, error) {
	var doc library.Document
	err := c.call(ctx, http.MethodPost, "/v1/media/alias", nil, r, &doc)
	return doc, err
}

// Undelete brings back what was deleted.
func (c *Client) Undelete(ctx context.Context, r library.UndeleteRequest) (library.Document, error) {
	var doc library.Document
	err := c.call(ctx, http.MethodPost, "/v1/media/undelete", nil, r, &doc)
	return doc, err
}

// Uses finds the places that lead to {account}/{id}.
func (c *Client) Uses(ctx context.Context, account, id string) (library.Uses, error) {
	var u library.Uses
	err := c.call(ctx, http.MethodGet, documentPath(account, id)+"/uses", nil, nil, &u)
	return u, err
}

// Purge deletes {account}/{id} for good, and what was deleted under that name.
func (c *Client) Purge(ctx context.Context, account, id string) error {
	return c.call(ctx, http.MethodDelete, documentPath(account, id), url.Values{"hard": {"true"}}, nil, nil)
}

// Usage counts an account's media.
func (c *Client) Usage(ctx context.Context, account string) (library.AccountUsage, error) {
	var u library.AccountUsage
	err := c.call(ctx, http.MethodGet, accountPath(account)+"/usage", nil, nil, &u)
	return u, err
}

// Expiring is what a retention would delete.
func (c *Client) Expiring(
	ctx context.Context, account string, q library.ExpiryQuery,
) (library.Expiry, error) {
	body := map[string]any{}
	if q.RetentionSeconds != nil {
		body["retention_seconds"] = q.RetentionSeconds
	}
	if !q.At.IsZero() {
		body["at"] = q.At
	}
	if q.Limit > 0 {
		body["limit"] = q.Limit
	}
	var x library.Expiry
	err := c.call(ctx, http.MethodPost, accountPath(account)+"/retention/preview", nil, body, &x)
	return x, err
}

// Reclaim is what was deleted and still takes room.
func (c *Client) Reclaim(ctx context.Context) (library.Reaped, error) {
	var r library.Reaped
	err := c.call(ctx, http.MethodGet, "/v1/reclaim", nil, nil, &r)
	return r, err
}

// Prompts yields the prompts of an account, page by page. Q.Limit is the size
// of a page. It ends after the first error.
func (c *Client) Prompts(
	ctx context.Context, account string, q library.PromptQuery,
) iter.Seq2[library.Prompt, error] {
	return func(yield func(library.Prompt, error) bool) {
		for {
			v := query(q.Limit, map[string]string{
				"prefix": q.Prefix, "after": q.After, "language": q.Language, "missing": q.Missing,
			})
			var page library.PromptPage
			if err := c.call(ctx, http.MethodGet, accountPath(account)+"/prompts", v, nil, &page); err != nil {
				yield(library.Prompt{}, fmt.Errorf("list prompts: %w", err))
				return
			}
			for _, p := range page.Items {
				if !yield(p, nil) {
					return
				}
			}
			if q.After = page.Next; page.Next == "" {
				return
			}
		}
	}
}

// Languages counts an account's prompts by language.
func (c *Client) Languages(ctx context.Context, account string) ([]library.LanguageCount, error) {
	var answer struct {
		Items []library.LanguageCount `json:"items"`
	}
	err := c.call(ctx, http.MethodGet, accountPath(account)+"/languages", nil, nil, &answer)
	return answer.Items, err
}
