package admin

import (
	"context"
	"testing"

	"carillon/library"
	"carillon/library/webhook"
)

// hooked is a library that keeps one webhook.
type hooked struct {
	*fakeLibrary
	got webhook.Request
}

func (h *hooked) PutWebhook(_ context.Context, id string, r webhook.Request) (
	webhook.Status, bool, error,
) {
	h.got = r
	return webhook.Status{ID: id, URL: r.URL, NewSecret: "made", State: webhook.OK}, true, nil
}

func (h *hooked) Webhook(_ context.Context, id string) (webhook.Status, error) {
	if id != "crm" {
		return webhook.Status{}, library.ErrNotFound
	}
	return webhook.Status{ID: id}, nil
}

func (h *hooked) Webhooks(context.Context) ([]webhook.Status, error) {
	return []webhook.Status{{ID: "crm"}}, nil
}

func (h *hooked) DeleteWebhook(context.Context, string) error { return library.ErrNotFound }

// TestWebhookRoutes: the requests arrive whole, from our own client too, and
// answers have their status.
func TestWebhookRoutes(t *testing.T) {
	lib := &hooked{fakeLibrary: newFake()}
	n := newNode(t, lib)
	c := eventClient(t, n)
	w, err := c.PutWebhook(t.Context(), "crm", webhook.Request{
		URL: "http://x", Secret: "0123456789abcdef", Kinds: []string{"media"}, Account: "a", After: "now",
	})
	if err != nil || w.NewSecret != "made" || lib.got.Secret != "0123456789abcdef" || lib.got.After != "now" {
		t.Errorf("%+v, %v; asked %+v", w, err, lib.got)
	}
	auth := "Authorization: Bearer " + testToken
	for _, r := range []struct {
		method, path, body string
		status             int
	}{
		{"PUT", "/v1/webhooks/crm", `{"url":"http://x"}`, 201},
		{"PUT", "/v1/webhooks/crm", `{"url":1}`, 400},
		{"PUT", "/v1/webhooks/crm", `{"what":1}`, 400},
		{"GET", "/v1/webhooks/crm", "", 200},
		{"GET", "/v1/webhooks/x", "", 404},
		{"GET", "/v1/webhooks", "", 200},
		{"GET", "/v1/webhooks?x=1", "", 400},
		{"DELETE", "/v1/webhooks/crm", "", 404},
	} {
		if a := n.do(t, r.method, r.path, r.body, auth); a.status != r.status {
			t.Errorf("%s %s %s: %d %s", r.method, r.path, r.body, a.status, a.body)
		}
		if a := n.do(t, r.method, r.path, r.body); a.status != 401 {
			t.Errorf("%s %s without a token: %d", r.method, r.path, a.status)
		}
	}
}
