package blobstore

import (
	"context"
	"sync"
	"sync/atomic"
)

// watches wakes those who wait for a row or for the applied index. It costs a
// lock and a look while nobody does.
type watches struct {
	mu      sync.Mutex
	closed  bool              // guarded by mu
	keys    map[string]*watch // guarded by mu
	applied chan struct{}     // made by the first who waits, guarded by mu
}

type watch struct {
	changed chan struct{}
	refs    int
}

// watch returns the channel that the next change of key closes.
func (w *watches) watch(key string) (changed <-chan struct{}, cancel func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.keys == nil {
		w.keys = make(map[string]*watch)
	}
	k := w.keys[key]
	if k == nil {
		k = &watch{changed: make(chan struct{})}
		w.keys[key] = k
	}
	k.refs++
	if w.closed {
		w.fireLocked(key)
	}
	var once sync.Once
	return k.changed, func() { once.Do(func() { w.drop(key, k) }) }
}

func (w *watches) drop(key string, k *watch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if k.refs--; k.refs == 0 && w.keys[key] == k {
		delete(w.keys, key)
	}
}

func (w *watches) fireLocked(key string) {
	if k := w.keys[key]; k != nil {
		close(k.changed)
		delete(w.keys, key)
	}
}

// fire reports changed keys and that the applied index moved.
func (w *watches) fire(keys []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.keys) > 0 {
		for _, key := range keys {
			w.fireLocked(key)
		}
	}
	w.wakeAppliedLocked()
}

// fireAll reports that any row may have changed.
func (w *watches) fireAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key := range w.keys {
		w.fireLocked(key)
	}
	w.wakeAppliedLocked()
}

func (w *watches) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.fireAll()
}

func (w *watches) wakeAppliedLocked() {
	if w.applied != nil {
		close(w.applied)
		w.applied = nil
	}
}

func (w *watches) waitApplied(ctx context.Context, applied *atomic.Uint64, index uint64) error {
	for {
		if applied.Load() >= index {
			return nil
		}
		w.mu.Lock()
		if w.closed {
			w.mu.Unlock()
			return ErrClosed
		}
		if w.applied == nil {
			w.applied = make(chan struct{})
		}
		moved := w.applied
		w.mu.Unlock()
		if applied.Load() >= index {
			return nil // it moved between the look and the channel
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
