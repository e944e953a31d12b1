package ring

import "sync"

// Ring keeps the last bytes of a stream in memory. Its methods may be called
// concurrently, Append and End by one goroutine.
type Ring struct {
	mu       sync.RWMutex // guards all below
	buf      []byte       // the byte at offset o is at o%len(buf)
	from, to int64
	ended    bool
	title    string
}

// New returns a ring that keeps bytesMax bytes and begins at offset at.
func New(bytesMax int, at int64) *Ring {
	return &Ring{buf: make([]byte, bytesMax), from: at, to: at}
}

// Append adds p at the end; what no longer fits is forgotten.
func (r *Ring) Append(p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.to
	r.to += int64(len(p))
	if extra := len(p) - len(r.buf); extra > 0 {
		p, at = p[extra:], at+int64(extra)
	}
	i := int(at % int64(len(r.buf)))
	copy(r.buf, p[copy(r.buf[i:], p):])
	r.from = max(r.from, r.to-int64(len(r.buf)))
}

// End says that nothing more will come.
func (r *Ring) End() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
}

// SetTitle says what is heard from now on.
func (r *Ring) SetTitle(title string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.title = title
}

// Title is what is heard at the end.
func (r *Ring) Title() string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.title
}

// Span is what can be read, and whether nothing more will come.
func (r *Ring) Span() (from, to int64, ended bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.from, r.to, r.ended
}

// ReadAt copies what is there at off into p and returns how much; 0 when off is
// not in the ring.
func (r *Ring) ReadAt(p []byte, off int64) int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if off < r.from || off >= r.to {
		return 0
	}
	p = p[:min(int64(len(p)), r.to-off)]
	n := copy(p, r.buf[off%int64(len(r.buf)):])
	return n + copy(p[n:], r.buf)
}
