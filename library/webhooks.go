package library

import (
	"context"
	"errors"
	"fmt"
	"time"

	"carillon/blobstore"
	"carillon/library/feed"
	"carillon/library/rows"
)

// webhookLagMax bounds how many waiting events are counted for a listing.
const webhookLagMax = feed.PageMax

// PutWebhook makes a webhook or changes it, and says whether it is new. Its
// position stays unless r.After says otherwise; one that was disabled because
// it failed is tried again.
func (l *Library) PutWebhook(ctx context.Context, id string, r WebhookRequest) (Webhook, bool, error) {
	if err := l.checkWebhook(id, &r); err != nil {
		return Webhook{}, false, err
	}
	var h hook
	created, made := false, ""
	revision, err := l.rows.Write(ctx, func() (blobstore.Txn, error) {
		before, err := l.hook(ctx, id)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return blobstore.Txn{}, err
		}
		if created = err != nil; created {
			if err := l.roomForWebhook(ctx); err != nil {
				return blobstore.Txn{}, err
			}
		}
		h, made = before, ""
		if h.row.Secret = orSecret(r.Secret, before.row.Secret); h.row.Secret == "" {
			made = newSecret()
			h.row.Secret = made
		}
		h.id, h.row.URL, h.row.Kinds, h.row.Account, h.row.Disabled = id, r.URL, r.Kinds, r.Account, r.Disabled
		was := &before.state
		if created {
			h.row.CreatedMS, was = time.Now().UnixMilli(), nil
		}
		p, err := l.startOf(r.After, was)
		if err != nil {
			return blobstore.Txn{}, err
		}
		h.state.moveTo(p)
		h.state.Off, h.state.FailingMS, h.state.Attempts, h.state.Error = false, 0, 0, ""
		h.state.Node = "" // whoever delivers it claims it anew, and so sees the change
		c := l.newChange()
		c.putWebhook(&h)
		return c.Done()
	})
	if err != nil {
		return Webhook{}, false, fmt.Errorf("put webhook %s: %w", id, err)
	}
	h.revision = revision
	v := h.view()
	v.NewSecret = made
	l.pokeWebhooks()
	return v, created, nil
}

func (l *Library) roomForWebhook(ctx context.Context) error {
	n, err := l.rows.Tally(ctx, webhookPrefix)
	if err != nil {
		return fmt.Errorf("webhooks: %w", err)
	}
	if n.Rows >= WebhooksMax {
		return fmt.Errorf("%d webhooks: %w", WebhooksMax, ErrLimit)
	}
	return nil
}

// putWebhook writes both rows.
func (c *change) putWebhook(h *hook) {
	value, err := rows.Encode(h.row)
	c.Fail(err)
	c.Expect(webhookKey(h.id), h.revision)
	c.Put(webhookKey(h.id), value)
	c.putWebhookState(h)
}

func (c *change) putWebhookState(h *hook) {
	value, err := rows.Encode(h.state)
	c.Fail(err)
	c.Expect(webhookStateKey(h.id), h.stateRevision)
	c.Put(webhookStateKey(h.id), value)
}

// hook reads a webhook, ErrNotFound if there is none.
func (l *Library) hook(ctx context.Context, id string) (hook, error) {
	row, err := l.rows.Get(ctx, webhookKey(id))
	if err != nil {
		return hook{}, rows.NotFound(err, "webhook", id)
	}
	h, err := decodeWebhook(id, row)
	if err != nil {
		return hook{}, err
	}
	row, err = l.rows.Get(ctx, webhookStateKey(id))
	if errors.Is(err, blobstore.ErrNotFound) {
		return h, nil // restored from a backup: it begins with what is kept
	}
	if err != nil {
		return hook{}, fmt.Errorf("webhook %s: %w", id, err)
	}
	err = h.decodeState(row)
	return h, err
}

// hooks reads all webhooks, in the order of their ids.
func (l *Library) hooks(ctx context.Context) ([]hook, error) {
	var all []hook
	for row, err := range l.rows.Scan(ctx, webhookPrefix, "") {
		if err != nil {
			return nil, fmt.Errorf("webhooks: %w", err)
		}
		h, err := l.hook(ctx, row.Key[len(webhookPrefix):])
		if errors.Is(err, ErrNotFound) {
			continue // went between the two reads
		}
		if err != nil {
			return nil, err
		}
		all = append(all, h)
	}
	return all, nil
}

// Webhook returns a webhook and how it does.
func (l *Library) Webhook(ctx context.Context, id string) (Webhook, error) {
	if err := checkWebhookID(id); err != nil {
		return Webhook{}, err
	}
	var h hook
	err := l.rows.Find(ctx, func() (err error) {
		h, err = l.hook(ctx, id)
		return err
	})
	if err != nil {
		return Webhook{}, err
	}
	return l.shownWebhook(ctx, &h)
}

// Webhooks lists all, in the order of their ids.
func (l *Library) Webhooks(ctx context.Context) ([]Webhook, error) {
	hooks, err := l.hooks(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]Webhook, 0, len(hooks))
	for i := range hooks {
		v, err := l.shownWebhook(ctx, &hooks[i])
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

// shownWebhook adds how far a webhook is behind.
func (l *Library) shownWebhook(ctx context.Context, h *hook) (Webhook, error) {
	v := h.view()
	q := h.query()
	page, err := l.Events(ctx, q, webhookLagMax)
	if errors.Is(err, ErrTrimmed) { // it will find that out itself
		q.Oldest = true
		page, err = l.Events(ctx, q, webhookLagMax)
	}
	if err != nil {
		return Webhook{}, err
	}
	if v.Lag = len(page.Events); v.Lag > 0 {
		v.LagSeconds = max(time.Since(page.Events[0].Time).Seconds(), 0)
	}
	return v, nil
}

// DeleteWebhook removes a webhook; ErrNotFound when there is none.
func (l *Library) DeleteWebhook(ctx context.Context, id string) error {
	if err := checkWebhookID(id); err != nil {
		return err
	}
	_, err := l.rows.Write(ctx, func() (blobstore.Txn, error) {
		var h hook
		err := l.rows.Find(ctx, func() (err error) {
			h, err = l.hook(ctx, id)
			return err
		})
		if err != nil {
			return blobstore.Txn{}, err
		}
		c := l.newChange()
		c.Expect(webhookKey(id), h.revision)
		c.Remove(webhookKey(id))
		c.Remove(webhookStateKey(id))
		return c.Done()
	})
	if err != nil {
		return fmt.Errorf("delete webhook %s: %w", id, err)
	}
	l.pokeWebhooks()
	return nil
}
