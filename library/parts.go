package library

import (
	"context"

	"carillon/library/feed"
)

// Events returns the next events after q.After, at most limit. ErrTrimmed: some
// of them are not kept any more, or the position is of another cluster.
func (l *Library) Events(ctx context.Context, q feed.Query, limit int) (feed.Page, error) {
	return l.feed.Read(ctx, q, limit)
}

// EventsNow is the position after everything that this node has applied.
func (l *Library) EventsNow() feed.Position { return l.feed.Now() }

// WatchEvents returns a channel that is closed when an event comes after the
// call. Call it before Events, so that nothing falls between the two.
func (l *Library) WatchEvents() (changed <-chan struct{}, cancel func()) { return l.feed.Watch() }

// FeedStatus is what there is to read of the change feed, and how its webhooks
// do.
type FeedStatus struct {
	feed.Status

	// Webhooks are how many webhooks do how.
	Webhooks map[WebhookState]int `json:"webhooks"`
}

// FeedStatus describes the feed as this node knows it.
func (l *Library) FeedStatus(ctx context.Context) (FeedStatus, error) {
	s, err := l.feed.Status(ctx)
	if err != nil {
		return FeedStatus{}, err
	}
	hooks, err := l.hooks(ctx)
	if err != nil {
		return FeedStatus{}, err
	}
	counts := map[WebhookState]int{}
	for i := range hooks {
		counts[hooks[i].state.state(hooks[i].row.Disabled)]++
	}
	return FeedStatus{s, counts}, nil
}
