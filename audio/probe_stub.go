package audio

type probe struct{}

// Write takes the next bytes of the file.
func (p *probe) Write(b []byte) (int, error) { return len(b), nil }
