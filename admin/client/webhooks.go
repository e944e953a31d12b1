package client

import (
	"context"
	"net/http"
	"net/url"

	"carillon/library/webhook"
)

func webhookPath(id string) string { return "/v1/webhooks/" + url.PathEscape(id) }

// PutWebhook makes a webhook or changes it. The secret that the server made
// for a new one is in NewSecret, once.
func (c *Client) PutWebhook(
	ctx context.Context, id string, r webhook.Request,
) (webhook.Status, error) {
	var w webhook.Status
	// A Secret hides itself from encoders.
	body := struct {
		webhook.Request
		Secret string `json:"secret"`
	}{r, r.Secret.Reveal()}
	err := c.call(ctx, http.MethodPut, webhookPath(id), nil, body, &w)
	return w, err
}

// Webhook returns a webhook and how it does.
func (c *Client) Webhook(ctx context.Context, id string) (webhook.Status, error) {
	var w webhook.Status
	err := c.call(ctx, http.MethodGet, webhookPath(id), nil, nil, &w)
	return w, err
}

// Webhooks lists all webhooks.
func (c *Client) Webhooks(ctx context.Context) ([]webhook.Status, error) {
	var answer struct {
		Items []webhook.Status `json:"items"`
	}
	err := c.call(ctx, http.MethodGet, "/v1/webhooks", nil, nil, &answer)
	return answer.Items, err
}

// TestWebhook tries a delivery without events.
func (c *Client) TestWebhook(ctx context.Context, id string) (webhook.Trial, error) {
	var t webhook.Trial
	err := c.call(ctx, http.MethodPost, webhookPath(id)+"/test", nil, nil, &t)
	return t, err
}

// DeleteWebhook removes a webhook.
func (c *Client) DeleteWebhook(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, webhookPath(id), nil, nil, nil)
}
