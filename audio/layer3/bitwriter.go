package layer3

// bitWriter appends bits to bytes, the highest first.
type bitWriter struct {
	b    []byte
	held uint64
	n    int
}

// put appends the low n bits of v, at most 32, which has no higher ones.
func (w *bitWriter) put(v uint32, n int) {
	w.held = w.held<<n | uint64(v)
	w.n += n
	for w.n >= 8 {
		w.n -= 8
		w.b = append(w.b, byte(w.held>>w.n))
	}
}

// flush fills the last byte with zeros.
func (w *bitWriter) flush() {
	if w.n > 0 {
		w.put(0, 8-w.n)
	}
}
