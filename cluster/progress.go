package cluster

import (
	"sync"
	"time"
)

// fetching is how far this node is in fetching what it lacks, over all groups
// that do so at the moment.
type fetching struct {
	mu     sync.Mutex
	groups int       // that fetch; guarded by mu, as all below
	begun  time.Time // the first of them
	done   int64     // bytes since begun
	bytes  int64     // left
	blobs  int64     // left
}

// begin counts what a group is about to fetch. The returned function ends it,
// and takes back what was not fetched.
func (f *fetching) begin(blobs, bytes int64) (p *portion, end func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.groups == 0 {
		f.begun, f.done = time.Now(), 0
	}
	f.groups++
	f.blobs += blobs
	f.bytes += bytes
	p = &portion{f: f, blobs: blobs, bytes: bytes}
	return p, p.end
}

// portion is what one group has left to fetch.
type portion struct {
	f            *fetching
	blobs, bytes int64 // guarded by f.mu
}

// blob notes that one of so many bytes is here.
func (p *portion) blob(bytes int64) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	bytes = min(bytes, p.bytes)
	p.blobs--
	p.bytes -= bytes
	p.f.blobs--
	p.f.bytes -= bytes
}

func (p *portion) end() {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.f.groups--
	p.f.blobs -= p.blobs
	p.f.bytes -= p.bytes
}

// moved notes bytes that have come.
func (f *fetching) moved(bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done += bytes
}

// status is nil when nothing is fetched.
func (f *fetching) status(now time.Time) *JoinStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.groups == 0 {
		return nil
	}
	s := &JoinStatus{Phase: "blobs", Bytes: f.done, BytesLeft: f.bytes, BlobsLeft: f.blobs}
	if spent := now.Sub(f.begun).Seconds(); spent > 0 && f.done > 0 {
		s.SecondsLeft = float64(f.bytes) / (float64(f.done) / spent)
	}
	return s
}
