package library

import (
	"context"
	"errors"
	"io"

	"carillon/audio"
	"carillon/blobstore"
)

// bufferingBytesMax is more than a FreeSWITCH that buffers file writes sends of
// a recording that is shorter than its buffer (freeswitch-wire.md 2.5). The
// caller's words are lost then, and nothing but these silent frames tells it.
const bufferingBytesMax = 1 << 10

// bufferingWarning is WarningWriteBuffering for a sealed recording with that
// mark, else "".
func (l *Library) bufferingWarning(ctx context.Context, blob blobstore.ID, o *outcome) string {
	if o.info == nil || o.totals.Size > bufferingBytesMax {
		return ""
	}
	r, err := l.shelf.Open(ctx, blob)
	if err != nil {
		return "" // it is a hint, not worth failing a seal for
	}
	p, err := io.ReadAll(io.LimitReader(r, bufferingBytesMax))
	if err = errors.Join(err, r.Close()); err != nil {
		return ""
	}
	return bufferingMark(p, o.info)
}

func bufferingMark(p []byte, info *audio.Info) string {
	if len(p) > bufferingBytesMax || !audio.LostRecording(p, *info) {
		return ""
	}
	return WarningWriteBuffering
}
