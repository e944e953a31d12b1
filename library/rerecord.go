package library

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"carillon/library/feed"
	"carillon/library/rows"
)

// Rerecord makes a fresh ticket in place of a recording that has ended and is
// not stored: with its account, name, limits, metadata and what is to become
// of it. The old sound is heard under the name until a source sends to the
// new ticket, and is discarded by the commit that ends the new recording with
// sound in it: a caller who hangs up instead of speaking loses nothing.
func (l *Library) Rerecord(ctx context.Context, recordingID string) (Recording, error) {
	s, err := l.recordingPast(ctx, recordingID, StateWaiting, StateLive)
	if err != nil {
		return Recording{}, err
	}
	switch s.State {
	case StateSealed, StateTruncated, StateDiscarded:
	case StateWaiting, StateLive, StateStored:
		return Recording{}, fmt.Errorf("recording %s is %s: %w", s.ID, s.State, ErrState)
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	again := &stored{
		Recording: Recording{
			ID: rows.NewID(now), Account: s.Account, Name: s.Name, StoreAs: s.StoreAs,
			Metadata: maps.Clone(s.Metadata), Created: now, TicketLimits: s.TicketLimits,
			StoreURL: s.StoreURL, Replaces: s.ID,
		},
		target: s.target,
	}
	if err := l.makeTicket(ctx, again, l.cfg.TicketTTL); err != nil {
		return Recording{}, fmt.Errorf("record %s again: %w", recordingID, err)
	}
	return again.Recording, nil
}

// dropReplaced discards, in the change that ends s with sound, the recording
// that s replaces.
func (l *Library) dropReplaced(ctx context.Context, c *change, s *stored) error {
	if s.Replaces == "" {
		return nil
	}
	old, err := l.recording(ctx, s.Replaces)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if old.State != StateSealed && old.State != StateTruncated {
		return nil // stored or discarded meanwhile
	}
	c.letGo(old)
	old.State, old.EndedBy = StateDiscarded, EndedByRerecord
	c.putRecording(old)
	c.event(feed.RecordingDiscarded, recordingEvent(&old.Recording))
	return nil
}
