package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
)

// query is what is asked of a listing: the values that are set, and how much of
// it; limit 0 leaves that to the server.
func query(limit int, values map[string]string) url.Values {
	v := url.Values{}
	for name, value := range values {
		if value != "" {
			v.Set(name, value)
		}
	}
	if limit > 0 {
		v.Set("limit", strconv.Itoa(limit))
	}
	return v
}

// listPage returns one page of a list, and the after of the next, "" at the end.
func listPage[T any](ctx context.Context, c *Client, path string, v url.Values) ([]T, string, error) {
	var answer struct {
		Items []T    `json:"items"`
		Next  string `json:"next"`
	}
	err := c.call(ctx, http.MethodGet, path, v, nil, &answer)
	return answer.Items, answer.Next, err
}
