package library

import "context"

// Session is one live source: it takes the bytes as they arrive. Write does
// not wait for the disk; bytes are durable on a majority within a second.
type Session struct{}

// Write takes bytes of the source. It copies p. Errors: ErrTooLarge at the
// recording limit, ErrUnavailable when so much waits to become durable that
// memory would grow beyond its bound, ErrState when it was discarded. After an
// error the caller ends the session.
func (s *Session) Write(p []byte) (int, error) { return len(p), nil }

// Recording is the recording as it began.
func (s *Session) Recording() Recording { return Recording{} }

// Done is closed when the recording was ended from elsewhere (discarded).
func (s *Session) Done() <-chan struct{} { return nil }

// Close makes everything durable and seals the recording. Ctx bounds how long
// it waits; what could not be sealed in that time is sealed in the background
// or by the next start of this node. Only the first call counts.
func (s *Session) Close(ctx context.Context, how Ending) error { return nil }
