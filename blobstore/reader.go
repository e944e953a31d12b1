package blobstore

// Reader is the one gate out.
type Reader struct{}

func (r *Reader) Read([]byte) (int, error)       { return 0, ErrClosed }
func (r *Reader) Seek(int64, int) (int64, error) { return 0, ErrClosed }
func (r *Reader) Close() error                   { return nil }
