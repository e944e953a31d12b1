package library

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"carillon/audio"
	"carillon/blobstore"
	"carillon/library/delivery"
	"carillon/library/export"
	"carillon/library/feed"
	"carillon/library/field"
	"carillon/library/naming"
	"carillon/library/rows"
)

const (
	// ticketTTLMax bounds the wait for a source: a ticket is made when a call
	// is about to be recorded, and the longest calls are a day.
	ticketTTLMax = 24 * time.Hour
	// ticketTokenBytes of randomness make a ticket's password.
	ticketTokenBytes = 24
	// icyEntriesMax and icyBytesMax bound what is kept of a source's headers.
	// More is left out and not refused: the audio matters, the headers do not.
	icyEntriesMax = 32
	icyBytesMax   = 4 << 10
)

// CreateRecording makes a ticket.
func (l *Library) CreateRecording(ctx context.Context, r RecordingRequest) (Recording, error) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	id := rows.NewID(now)
	switch {
	case r.Name == "":
		r.Name = id + audio.FormatMP3.Ext()
	case !hasExt(r.Name):
		r.Name += audio.FormatMP3.Ext()
	}
	ttl, err := l.checkRequest(&r)
	if err == nil {
		err = l.checkRoom(ctx, r.Account) // a caller who was recorded is never told
	}
	if err == nil && r.StoreURL != "" {
		err = l.exports.Room(ctx)
	}
	if err != nil {
		return Recording{}, err
	}
	s := &stored{
		Recording: Recording{
			ID: id, Account: r.Account, Name: r.Name, StoreAs: r.StoreAs,
			Metadata: r.Metadata, Created: now, TicketLimits: r.TicketLimits,
		},
	}
	if r.StoreURL != "" {
		s.target = &export.Target{
			URL: r.StoreURL, Method: r.StoreMethod, Headers: r.StoreHeaders, DeleteAfter: r.DeleteAfter,
		}
		s.StoreURL = delivery.ShownURL(r.StoreURL)
	}
	if err := l.makeTicket(ctx, s, ttl); err != nil {
		return Recording{}, fmt.Errorf("create recording: %w", err)
	}
	return s.Recording, nil
}

// makeTicket commits a new recording that waits for its source so long, and
// gives it its token.
func (l *Library) makeTicket(ctx context.Context, s *stored, ttl time.Duration) error {
	secret := make([]byte, ticketTokenBytes)
	_, _ = rand.Read(secret) // never fails, see crypto/rand.Read
	token := base64.RawURLEncoding.EncodeToString(secret)
	hash := sha256.Sum256([]byte(token))
	expires := s.Created.Add(ttl)
	s.State, s.tokenHash, s.Expires = StateWaiting, hash[:], &expires
	c := l.newChange()
	c.Urgent() // it comes before a recording
	c.putRecording(s)
	c.Put(ownerKey(s.Account, s.ID), rows.EncodeText(""))
	c.Put(activeKey(s.ID), rows.EncodeText(""))
	txn, err := c.Done()
	if err != nil {
		return err
	}
	s.Revision, err = l.rows.Commit(ctx, txn)
	s.Token = token
	return err
}

func (l *Library) checkRequest(r *RecordingRequest) (time.Duration, error) {
	var c checks
	c.limits(&r.TicketLimits, l.cfg.RecordingBytesMax)
	c.metadata(r.Metadata)
	c.Within("ttl_seconds", int64(r.TTLSeconds), int64(ticketTTLMax/time.Second))
	if r.DeleteAfter && r.StoreURL != "" && r.StoreAs != "" {
		c.Fail("delete_after", field.Invalid, "does not go with store_as: the recording becomes an item")
	}
	err := errors.Join(naming.CheckAccount(r.Account), checkRecordingName(r.Name), c.Err())
	if r.StoreAs != "" {
		err = errors.Join(err, naming.CheckID(r.StoreAs))
	}
	if r.StoreURL != "" {
		err = errors.Join(err, l.checkStoreURL(r))
	}
	if err != nil {
		return 0, err
	}
	if r.TTLSeconds == 0 {
		return l.cfg.TicketTTL, nil
	}
	return time.Duration(r.TTLSeconds) * time.Second, nil
}

func (l *Library) checkStoreURL(r *RecordingRequest) error {
	t := export.Target{URL: r.StoreURL, Method: r.StoreMethod, Headers: r.StoreHeaders}
	err := l.exports.Check(&t)
	r.StoreMethod = t.Method
	return err
}

// RecordURL is the shout:// URL for a ticket (the Token must be set). It holds
// only characters that libshout leaves alone (freeswitch-wire.md 2.3): ids and
// tokens are made of them, and names are checked.
func (l *Library) RecordURL(r Recording) string {
	return "shout://" + r.ID + ":" + r.Token + "@" + l.cfg.ShoutHost + "/" + r.Name
}

// Recording returns a recording; of a live one with its present size.
func (l *Library) Recording(ctx context.Context, id string) (Recording, error) {
	if session := l.session(id); session != nil {
		if s, ok := session.unclaimed(); ok { // only we know that it lives
			session.measure(&s.Recording)
			return s.Recording, nil
		}
	}
	s, err := l.freshRecording(ctx, id)
	if err != nil {
		return Recording{}, err
	}
	if s.State == StateLive && !l.measure(&s.Recording) {
		// Another node's: our own copy of the blob is a tick behind.
		if info, err := l.shelf.Stat(ctx, s.Blob); err == nil {
			s.Size = info.Size
		}
	}
	return s.Recording, nil
}

// freshRecording reads a recording after a miss again with the leader's word.
// A ticket that expired unused is not there any more.
func (l *Library) freshRecording(ctx context.Context, id string) (*stored, error) {
	if !rows.IsID(id) {
		return nil, fmt.Errorf("recording %s: %w", naming.Shown(id), ErrNotFound)
	}
	var s *stored
	err := l.rows.Find(ctx, func() (err error) {
		s, err = l.recording(ctx, id)
		return err
	})
	if err == nil && s.expired(time.Now()) {
		return nil, fmt.Errorf("recording %s has expired: %w", id, ErrNotFound)
	}
	return s, err
}

// recordingPast reads a recording; one that this node believes in an early
// state, whose next the caller has seen elsewhere, it reads again.
func (l *Library) recordingPast(ctx context.Context, id string, early ...State) (*stored, error) {
	s, err := l.freshRecording(ctx, id)
	if err != nil || !slices.Contains(early, s.State) {
		return s, err
	}
	if err := l.rows.Fresh(ctx); err != nil {
		return nil, err
	}
	return l.freshRecording(ctx, id)
}

func (s *stored) expired(now time.Time) bool {
	return s.State == StateWaiting && s.Expires != nil && !now.Before(*s.Expires)
}

// ListRecordings returns the recordings of an account ("" for all) in the
// order of their ids.
func (l *Library) ListRecordings(
	ctx context.Context, account, after string, limit int,
) (found []Recording, next string, err error) {
	prefix := recordingPrefix
	if account != "" {
		if err := naming.CheckAccount(account); err != nil {
			return nil, "", err
		}
		prefix = ownerKey(account, "")
	}
	if limit, err = rows.PageLimit(limit); err != nil {
		return nil, "", err
	}
	from := ""
	if after != "" {
		if !rows.IsID(after) {
			return nil, "", fmt.Errorf("after %s is no recording id: %w", naming.Shown(after), ErrBadRequest)
		}
		from = prefix + after
	}
	now, seen, last := time.Now(), 0, ""
	found = []Recording{}
	for row, err := range l.rows.Scan(ctx, prefix, from) {
		if err != nil {
			return nil, "", fmt.Errorf("list recordings: %w", err)
		}
		if len(found) == limit || seen == rows.ScanMax {
			return found, last, nil
		}
		seen++
		last = row.Key[len(prefix):]
		s, err := l.listed(ctx, last, row)
		switch {
		case errors.Is(err, ErrNotFound): // went between the two reads
		case err != nil:
			return nil, "", err
		case !s.expired(now):
			l.measure(&s.Recording)
			found = append(found, s.Recording)
		}
	}
	return found, "", nil
}

// listed is the recording that a row of either index stands for.
func (l *Library) listed(ctx context.Context, id string, row blobstore.Row) (*stored, error) {
	if row.Key != recordingKey(id) {
		return l.recording(ctx, id)
	}
	s, err := decodeRecording(id, row)
	return &s, err
}

// DiscardRecording ends and frees a recording in any state but stored. Again
// it is success.
func (l *Library) DiscardRecording(ctx context.Context, recordingID string) error {
	_, err := l.rows.Write(ctx, func() (blobstore.Txn, error) {
		s, err := l.freshRecording(ctx, recordingID)
		if err != nil {
			return blobstore.Txn{}, err
		}
		switch s.State {
		case StateStored:
			return blobstore.Txn{}, fmt.Errorf("recording %s is %s: %w", s.ID, s.State, ErrState)
		case StateDiscarded:
			return blobstore.Txn{}, rows.ErrDone
		case StateWaiting, StateLive, StateSealed, StateTruncated:
		}
		c := l.newChange()
		if err := l.releaseMount(ctx, c, s); err != nil {
			return blobstore.Txn{}, err
		}
		c.letGo(s)
		if s.Ended == nil {
			now := time.Now().UTC().Truncate(time.Millisecond)
			s.Ended = &now
		}
		s.State, s.EndedBy = StateDiscarded, EndedByDiscard
		c.putRecording(s)
		c.event(feed.RecordingDiscarded, recordingEvent(&s.Recording))
		return c.Done()
	})
	if err != nil && !errors.Is(err, rows.ErrDone) {
		return fmt.Errorf("discard recording %s: %w", recordingID, err)
	}
	return nil
}

// letGo frees the sound of a recording that is being discarded.
func (c *change) letGo(s *stored) {
	if !s.Blob.IsZero() {
		c.Remove(blobstore.RefKey(s.Blob, recordingKey(s.ID)))
		c.Remove(nameKey(s.Account, s.Name, s.ID))
	}
	c.Put(activeKey(s.ID), rows.EncodeText("")) // the periodic pass forgets it later
}

// releaseMount frees the mount of a configured account that s is live on.
func (l *Library) releaseMount(ctx context.Context, c *change, s *stored) error {
	if !s.configured || s.State != StateLive {
		return nil
	}
	key := liveKey(s.Account, s.Name)
	row, err := l.rows.Get(ctx, key)
	if errors.Is(err, blobstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("mount %s: %w", s.Name, err)
	}
	if holder, err := rows.DecodeText(row.Value); err != nil || holder != s.ID {
		return err // another source has taken it over
	}
	c.Expect(key, row.Revision)
	c.Remove(key)
	return nil
}
