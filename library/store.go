package library

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"carillon/blobstore"
	"carillon/library/feed"
	"carillon/library/naming"
	"carillon/library/rows"
)

// StoreRequest says which item a recording becomes. Fields that are empty are
// taken from the recording (metadata, the name that its source gave), then
// from the item that is replaced.
type StoreRequest struct {
	Account     string            `json:"account"`
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Language    string            `json:"language"`
	Prompt      string            `json:"prompt_id"`
	SourceID    string            `json:"source_id"`
	SourceType  string            `json:"source_type"`
	Class       Class             `json:"class"`    // "": ClassRecording
	Metadata    map[string]string `json:"metadata"` // over the recording's own, entry by entry
	// IfMatch and IfNoneMatch are the conditional headers' raw values, "" for none.
	IfMatch     string `json:"-"`
	IfNoneMatch string `json:"-"`

	// unasked: its source has left, and nobody has said that it may overwrite.
	unasked bool
}

func (r *StoreRequest) check() error {
	if err := naming.CheckItem(r.Account, r.ID); err != nil {
		return err
	}
	r.Language = strings.ToLower(r.Language)
	var c checks
	c.fields(&Document{
		Name: r.Name, Description: r.Description, Language: r.Language, Prompt: r.Prompt,
		SourceID: r.SourceID, SourceType: r.SourceType, Class: r.Class, Metadata: r.Metadata,
	})
	return c.Err()
}

// StoreRecording makes the sealed recording the item {account}/{id} without
// moving bytes, in one commit. Again for the same item it returns the item.
func (l *Library) StoreRecording(ctx context.Context, recordingID string, r StoreRequest) (Document, error) {
	if err := r.check(); err != nil {
		return Document{}, err
	}
	var d *Document
	revision, err := l.rows.Write(ctx, func() (blobstore.Txn, error) {
		s, err := l.recordingPast(ctx, recordingID, StateWaiting, StateLive)
		if err != nil {
			return blobstore.Txn{}, err
		}
		if s.State == StateStored && s.ItemAccount == r.Account && s.Item == r.ID {
			if d, err = l.itemOf(ctx, s); err == nil {
				err = rows.ErrDone
			}
			return blobstore.Txn{}, err
		}
		if err := s.checkKept(); err != nil {
			return blobstore.Txn{}, err
		}
		c := l.newChange()
		if d, err = l.storeInto(ctx, c, s, &r); err != nil {
			return blobstore.Txn{}, err
		}
		c.putRecording(s)
		return c.Done()
	})
	if errors.Is(err, rows.ErrDone) {
		return *d, nil
	}
	if err != nil {
		return Document{}, fmt.Errorf("store recording %s: %w", recordingID, err)
	}
	d.Revision = revision
	return *d, nil
}

// storeInto turns s into a stored recording and adds its item to the change.
// The sound's reference moves from the recording to the item, so that deleting
// the item frees it.
func (l *Library) storeInto(
	ctx context.Context, c *change, s *stored, r *StoreRequest,
) (*Document, error) {
	before, err := l.current(ctx, r.Account, r.ID)
	if err != nil {
		return nil, err
	}
	etags, err := l.etags(ctx, before)
	if err == nil {
		err = checkConditions(r.IfMatch, r.IfNoneMatch, etags...)
	}
	if err != nil {
		return nil, err
	}
	metadata := s.Metadata
	if len(r.Metadata) > 0 {
		metadata = maps.Clone(r.Metadata)
		for k, v := range s.Metadata {
			if _, over := metadata[k]; !over {
				metadata[k] = v
			}
		}
		if err := checkMetadata(metadata); err != nil {
			return nil, err
		}
	}
	d := s.document(r.Account, r.ID)
	d.Metadata = metadata
	d.Name, d.Description, d.Language, d.Prompt = r.Name, r.Description, r.Language, r.Prompt
	d.SourceID, d.SourceType, d.Class = r.SourceID, r.SourceType, r.Class
	// FreeSWITCH sends RECORD_TITLE here, or this text for none.
	title := cmp.Or(s.ICY["ice-name"], s.ICY["icy-name"])
	if d.Name == "" && title != "no name" && checkTexts(title, "") == nil {
		d.Name = title
	}
	l.inherit(&d, before)
	c.replaceDocument(ctx, before, &d)
	if r.unasked && s.overwrites(before) {
		c.keepDeleted(before, deletion{DeletedByRecording, time.Now(), l.cfg.UndeleteWindow})
	}
	c.Remove(blobstore.RefKey(s.Blob, recordingKey(s.ID)))
	s.State, s.ItemAccount, s.Item = StateStored, r.Account, r.ID
	e := recordingEvent(&s.Recording)
	e.Account = r.Account // where it is found now
	c.event(feed.RecordingStored, e)
	return &d, l.exportStored(ctx, c, s, &d)
}

// overwrites says whether storing s under its own name puts away another
// recording: that of an earlier call, or what an encoder with a fixed login had
// sent before its connection broke. What s goes on with is in it.
func (s *stored) overwrites(before *Document) bool {
	return before != nil && before.Source == sourceRecording && before.Blob != s.Blob && len(s.Segments) == 0
}

// document is the item that a recording that checkKept lets through becomes.
func (s *stored) document(account, id string) Document {
	return Document{
		Account: account, ID: id, Blob: s.Blob, Size: s.Size, SHA256: s.SHA256,
		ContentType: s.Audio.Format.ContentType(), Audio: *s.Audio, DurationMS: s.DurationMS,
		Source: sourceRecording, Truncated: s.truncated || s.Audio.Truncated, Metadata: s.Metadata,
		Warning: s.Warning, Segments: s.Segments,
	}
}

// checkKept returns an error unless s is a recording that has ended and holds
// sound to keep.
func (s *stored) checkKept() error {
	if s.State != StateSealed && s.State != StateTruncated {
		return fmt.Errorf("recording %s is %s: %w", s.ID, s.State, ErrState)
	}
	if s.Audio == nil || s.Size == 0 {
		return fmt.Errorf("recording %s holds no audio: %w", s.ID, ErrUnsupportedMedia)
	}
	return nil
}
