package library

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"carillon/blobstore"
	"carillon/library/feed"
	"carillon/library/naming"
	"carillon/library/rows"
)

// claimWait bounds how long a source waits for a majority: until it is
// answered the caller's audio is lost (freeswitch-wire.md 2.5), and a call that
// is not answered cannot be killed (2.2).
const claimWait = 5 * time.Second

// Claim checks a source's credentials and mount, turns the ticket (or the
// configured account) into a live recording, and returns the session that
// takes its bytes.
func (l *Library) Claim(ctx context.Context, r SourceRequest) (*Session, error) {
	bounded, cancel := context.WithTimeout(ctx, claimWait)
	defer cancel()
	s, err := l.claim(bounded, &r)
	if errors.Is(err, blobstore.ErrUnavailable) || err != nil && bounded.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("claim %s: %w: %w", naming.Shown(r.Mount), ErrUnavailable, err)
	}
	l.metrics.claim(err)
	return s, err
}

func (l *Library) claim(ctx context.Context, r *SourceRequest) (*Session, error) {
	ticket, account, err := l.authenticate(ctx, r)
	if err != nil {
		return nil, err
	}
	s := &stored{}
	switch {
	case ticket != nil && ticket.State != StateWaiting:
		return l.takeOver(ctx, ticket, r)
	case ticket != nil:
		s = ticket
	default:
		err = l.newSourceRecording(s, account, r.Mount)
	}
	if err != nil {
		return nil, err
	}
	session, err := l.enter(s.ID)
	if err != nil {
		return nil, err
	}
	err = l.beginSoon(ctx, s, session, r)
	if errors.Is(err, ErrMountInUse) {
		// By what this node knows: the last source may have left elsewhere.
		if err = l.rows.Fresh(ctx); err == nil {
			err = l.begin(ctx, s, session.blob, r)
		}
	}
	if err == nil {
		err = session.start(ctx, s.Recording)
	}
	if err != nil {
		// If it went live all the same, the next pass ends it.
		l.leave(session)
		return nil, fmt.Errorf("claim %s: %w", naming.Shown(r.Mount), err)
	}
	return session, nil
}

// beginSoon is begin for a source that cannot wait for a leader: after a moment
// its recording begins in the spool.
func (l *Library) beginSoon(ctx context.Context, s *stored, session *Session, r *SourceRequest) error {
	if !l.spool.On() {
		return l.begin(ctx, s, session.blob, r)
	}
	bounded, cancel := context.WithTimeout(ctx, spoolClaimWait)
	defer cancel()
	revision := s.Revision
	err := l.begin(bounded, s, session.blob, r)
	if err == nil || !l.spool.Refused(ctx, err) {
		return err
	}
	s.Revision = revision
	return session.deferClaim(ctx, s)
}

// authenticate finds whose credentials these are: a ticket's, or else a
// configured account's. All comparisons are made whatever the earlier ones
// said, on hashes of one length.
func (l *Library) authenticate(ctx context.Context, r *SourceRequest) (*stored, string, error) {
	logins := basicLogins(r)
	if r.PasswordOnly {
		logins = lineLogins(r)
	}
	for _, in := range logins {
		ticket, account, err := l.authenticateAs(ctx, in)
		if err != nil || ticket == nil && account == "" {
			if err != nil {
				return nil, "", err
			}
			continue
		}
		r.Mount = in.mount
		if ticket == nil {
			return nil, account, nil
		}
		if r.PasswordOnly {
			r.Mount = ticket.Name
		}
		return ticket, "", l.checkTicket(ticket, r.Mount, r.RemoteAddr)
	}
	return nil, "", fmt.Errorf("source on %s: %w", naming.Shown(r.Mount), ErrUnauthorized)
}

// login is one reading of a source's credentials. Anybody: the user does not
// matter.
type login struct {
	user, password, mount string
	anybody               bool
}

// sourceUser is the user of programs that have no setting for it, like DarkIce.
const sourceUser = "source"

// basicLogins are the readings of Basic credentials. Who cannot set the user
// has a ticket's in the password, as in the line of SHOUTcast.
func basicLogins(r *SourceRequest) []login {
	logins := []login{{r.User, r.Password, r.Mount, false}}
	if r.User != sourceUser {
		return logins
	}
	if id, token, ok := strings.Cut(r.Password, ":"); ok && rows.IsID(id) {
		logins = append(logins, login{id, token, r.Mount, false})
	}
	return logins
}

// lineLogins are the readings of a SHOUTcast password line, in the order in
// which they are tried.
func lineLogins(r *SourceRequest) []login {
	logins := []login{{"", r.Password, r.Mount, true}}
	if left, right, ok := strings.Cut(r.Password, ":"); ok {
		if mount, slash := strings.CutPrefix(left, "/"); slash {
			logins = append(logins, login{"", right, mount, true})
		} else {
			logins = append(logins, login{left, right, r.Mount, false})
		}
	}
	return logins
}

// SourceAccount is the account of a login of shout.sources, and whether it is
// one. In constant time.
func (l *Library) SourceAccount(user, password string) (account string, ok bool) {
	account, known := l.configuredAccount(login{user: user, password: password})
	return account, known == 1
}

// configuredAccount is SourceAccount with 1 for true.
func (l *Library) configuredAccount(in login) (account string, known int) {
	user, password := sha256.Sum256([]byte(in.user)), sha256.Sum256([]byte(in.password))
	anybody := 0
	if in.anybody && in.password != "" { // an empty line is nobody's password
		anybody = 1
	}
	for i := range l.sources {
		source := &l.sources[i]
		same := (anybody | subtle.ConstantTimeCompare(user[:], source.user[:])) &
			subtle.ConstantTimeCompare(password[:], source.password[:])
		if same == 1 && known == 0 {
			account, known = source.account, 1
		}
	}
	return account, known
}

// authenticateAs returns the ticket or the account that the login opens; of
// neither kind: nil and "".
func (l *Library) authenticateAs(ctx context.Context, in login) (*stored, string, error) {
	var ticket *stored
	if rows.IsID(in.user) {
		var err error
		ticket, err = l.freshRecording(ctx, in.user)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, "", err
		}
	}
	password := sha256.Sum256([]byte(in.password))
	account, _ := l.configuredAccount(in)
	var hash [sha256.Size]byte // no password hashes to zeros
	if ticket != nil {
		copy(hash[:], ticket.tokenHash)
	}
	if subtle.ConstantTimeCompare(password[:], hash[:]) == 1 {
		return ticket, "", nil
	}
	return nil, account, nil
}

func (l *Library) checkTicket(t *stored, mount, remote string) error {
	switch {
	case t.State == StateDiscarded:
		return fmt.Errorf("recording %s was discarded: %w", t.ID, ErrUnauthorized)
	case t.expired(time.Now()): // also freshRecording's answer
		return fmt.Errorf("ticket of recording %s has expired: %w", t.ID, ErrUnauthorized)
	case !t.admits(remote):
		return fmt.Errorf("ticket of recording %s does not allow %s: %w", t.ID, remote, ErrUnauthorized)
	case mount != t.Name:
		return fmt.Errorf("mount %s, ticket is for %q: %w", naming.Shown(mount), t.Name, ErrNotFound)
	case t.State != StateWaiting && !l.continuable(t, time.Now()):
		return fmt.Errorf("recording %s is %s: %w", t.ID, t.State, ErrTicketUsed)
	}
	return nil
}

// newSourceRecording is the recording of a source without a ticket: it is
// named, and stored, as its mount.
func (l *Library) newSourceRecording(s *stored, account, mount string) error {
	if err := naming.CheckID(mount); err != nil {
		return err
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	*s = stored{
		Recording: Recording{
			ID: rows.NewID(now), Account: account, Name: mount, StoreAs: mount,
			State: StateWaiting, Created: now,
		},
		configured: true,
	}
	return nil
}

// enter reserves a place among this node's live sources before the claim is
// committed, so that the periodic pass does not take the recording for one
// that was left behind.
func (l *Library) enter(id string) (*Session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, fmt.Errorf("shutting down: %w", ErrUnavailable)
	case l.sessions[id] != nil:
		return nil, fmt.Errorf("recording %s: %w", id, ErrTicketUsed)
	case len(l.sessions) >= l.cfg.SourcesMax:
		return nil, fmt.Errorf("%d sources are live on this node: %w", len(l.sessions), ErrLimit)
	}
	// Its blob begins while the claim is being committed.
	s := newSession(l, id)
	l.sessions[id] = s
	l.metrics.live.Inc()
	return s, nil
}

// leave gives the place back. It is called once.
func (l *Library) leave(s *Session) {
	s.live.Drop() // what is sealed stays sealed
	l.mu.Lock()
	delete(l.sessions, s.id)
	l.mu.Unlock()
	l.metrics.live.Dec()
	close(s.settled)
}

// session is the live session of a recording on this node, or nil.
func (l *Library) session(id string) *Session {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sessions[id]
}

// begin commits that the recording is live, in one step: of two sources with
// one ticket the second finds another revision.
func (l *Library) begin(ctx context.Context, s *stored, blob blobstore.ID, r *SourceRequest) error {
	now, copied := time.Now().UTC().Truncate(time.Millisecond), s.Blob
	s.State, s.Blob, s.Node, s.yields = StateLive, blob, l.deps.NodeID, false
	s.ContentType, s.ICY = shortened(r.ContentType), boundedICY(r.ICY)
	if s.Started == nil {
		s.Started = &now
	}
	return l.commitLive(ctx, s, copied)
}

// commitLive commits that s is live. Copied is the blob that it had before, if
// another source goes on with it.
func (l *Library) commitLive(ctx context.Context, s *stored, copied blobstore.ID) error {
	blob := s.Blob
	c := l.newChange()
	c.Urgent()
	if !copied.IsZero() && copied != blob {
		c.Remove(blobstore.RefKey(copied, recordingKey(s.ID)))
	}
	if s.dropped != nil {
		s.dropped.Remove(c.Change)
	}
	c.putRecording(s)
	c.event(feed.RecordingStarted, recordingEvent(&s.Recording))
	c.Put(activeKey(s.ID), rows.EncodeText(""))
	c.Put(nameKey(s.Account, s.Name, s.ID), rows.EncodeText(""))
	c.Put(blobstore.RefKey(blob, recordingKey(s.ID)), rows.EncodeText(""))
	if s.Revision == 0 { // of no ticket
		c.Put(ownerKey(s.Account, s.ID), rows.EncodeText(""))
	}
	if s.configured {
		if err := l.takeMount(ctx, c, s); err != nil {
			return err
		}
	}
	txn, err := c.Done()
	if err != nil {
		return err
	}
	s.Revision, err = l.rows.Commit(ctx, txn)
	if errors.Is(err, blobstore.ErrConflict) {
		if s.configured {
			return ErrMountInUse
		}
		return ErrTicketUsed
	}
	return err
}

// takeMount makes s the one source of its mount. A holder whose source is not
// there any more, though its recording may not be sealed yet, gives way.
func (l *Library) takeMount(ctx context.Context, c *change, s *stored) error {
	key := liveKey(s.Account, s.Name)
	row, err := l.rows.Get(ctx, key)
	if err != nil && !errors.Is(err, blobstore.ErrNotFound) {
		return fmt.Errorf("mount %s: %w", s.Name, err)
	}
	if err == nil {
		id, err := rows.DecodeText(row.Value)
		if err != nil {
			return err
		}
		holder, err := l.recording(ctx, id)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if err == nil && holder.State == StateLive && !l.abandoned(holder) {
			return ErrMountInUse
		}
	}
	c.Expect(key, row.Revision) // 0 when there was none
	c.Put(key, rows.EncodeText(s.ID))
	return nil
}

// orphaned says whether a live recording has no source any more.
func (l *Library) orphaned(s *stored) bool {
	if s.Node == l.deps.NodeID {
		return l.session(s.ID) == nil && !l.spool.Holds(s.ID)
	}
	return l.deps.Gone != nil && l.deps.Gone(s.Node)
}

// abandoned says whether a live recording's source has left, though its
// session may still be at work sealing it.
func (l *Library) abandoned(s *stored) bool {
	if session := l.session(s.ID); session != nil {
		return session.hasEnded()
	}
	return l.orphaned(s)
}

// boundedICY is what is kept of a source's headers.
func boundedICY(icy map[string]string) map[string]string {
	kept, size := make(map[string]string, min(len(icy), icyEntriesMax)), 0
	for k, v := range icy {
		k, v = strings.ToValidUTF8(k, "?"), strings.ToValidUTF8(v, "?")
		if size += len(k) + len(v); len(kept) == icyEntriesMax || size > icyBytesMax {
			break
		}
		kept[k] = v
	}
	return kept
}

func shortened(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= TextBytesMax {
		return s
	}
	s = s[:TextBytesMax]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s
}
