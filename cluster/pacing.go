package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	"carillon/blobstore"
)

// pacing keeps this node from fetching faster than it may.
type pacing struct {
	rate int64 // bytes a second, 0: as fast as it goes

	mu   sync.Mutex
	free time.Time // when the next byte may be fetched; guarded by mu
}

// wait returns when so many bytes may be fetched.
func (p *pacing) wait(ctx context.Context, bytes int64) error {
	if p.rate == 0 {
		return nil
	}
	p.mu.Lock()
	now := time.Now()
	if p.free.Before(now) {
		p.free = now
	}
	wait := p.free.Sub(now)
	p.free = p.free.Add(time.Duration(float64(bytes) / float64(p.rate) * float64(time.Second)))
	p.mu.Unlock()
	if wait > 0 && !pause(ctx, wait) {
		return fmt.Errorf("fetch: %w: %w", blobstore.ErrUnavailable, ctx.Err())
	}
	return nil
}
