package library

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"carillon/blobstore"
	"carillon/library/rows"
)

const (
	// reapLookEvery is the longest time between two looks at whether a pass is
	// due; it is one read of a row.
	reapLookEvery = time.Minute
	// reapBatch is how many documents one commit deletes: each takes up to nine
	// of the operations that a Txn may have (blobstore.TxnOpsMax).
	reapBatch = 24
	// reapJumpMax is how far apart two passes may be before the second one deletes
	// nothing and only says what time it is: a cluster that was off for a week
	// waits one interval more, and a node whose clock is years ahead waits for
	// ever, because the others contradict it.
	reapJumpMax = 24 * time.Hour
	// reapReadAhead bounds the expired documents that are in memory at once.
	reapReadAhead = 1000
)

// Reaped is what a pass over what is too old did, and what it left: expired
// items wait for the undelete window, blobs without a name for the sweep of
// the shelf.
type Reaped struct {
	Node    string     `json:"node"` // that did it
	Started time.Time  `json:"started,omitzero"`
	Ended   *time.Time `json:"ended,omitempty"` // nil: it is running, or died
	Error   string     `json:"error,omitempty"` // of the last step that failed
	// Expired were deleted because their retention was over.
	Expired Usage `json:"expired"`
	// Purged were deleted for good: their undelete window was over.
	Purged Usage `json:"purged"`
	// Deleted can still be brought back, and take room until then.
	Deleted Usage `json:"deleted"`
}

// reapRow is a Reaped as it lies in the catalog. It is the lease, too: who
// writes Started into it does the pass.
type reapRow struct {
	Node      string `json:"n"`
	StartedMS int64  `json:"s"`
	EndedMS   int64  `json:"e,omitempty"`
	Error     string `json:"x,omitempty"`
	Expired   Usage  `json:"xp"`
	Purged    Usage  `json:"pu"`
	Deleted   Usage  `json:"dl"`
}

// LastReaped is what the last pass did, on whatever node; before the first it
// is zero.
func (l *Library) LastReaped(ctx context.Context) (Reaped, error) {
	r, _, err := l.reapState(ctx)
	if errors.Is(err, ErrNotFound) {
		return Reaped{}, nil
	}
	if err != nil {
		return Reaped{}, err
	}
	return Reaped{
		Node: r.Node, Started: rows.FromMS(r.StartedMS), Ended: rows.FromMSPtr(r.EndedMS), Error: r.Error,
		Expired: r.Expired, Purged: r.Purged, Deleted: r.Deleted,
	}, nil
}

func (l *Library) reapState(ctx context.Context) (reapRow, uint64, error) {
	var r reapRow
	row, err := l.rows.Get(ctx, reapKey)
	if err != nil {
		return r, 0, rows.NotFound(err, "pass over what is too old")
	}
	err = rows.Decode(row.Value, &r)
	return r, row.Revision, err
}

// reap looks again and again whether a pass is due.
func (l *Library) reap(ctx context.Context) {
	every := min(l.cfg.ExpiryInterval/4, reapLookEvery)
	for {
		timer := time.NewTimer(every/2 + rand.N(every)) //nolint:gosec // spreads load, keeps no secret
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		if err := l.reapIfDue(ctx, time.Now()); err != nil && ctx.Err() == nil {
			l.log.WarnContext(ctx, "a pass over what is too old did not get through", "error", err)
		}
	}
}

// reapIfDue does a pass unless one was begun, anywhere in the cluster, less
// than the interval ago. Each document is deleted on the condition that it is
// what was looked at, so even two passes at once do no harm.
func (l *Library) reapIfDue(ctx context.Context, now time.Time) error {
	last, revision, err := l.reapState(ctx)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	l.metrics.reaped(&last)
	since := now.Sub(rows.FromMS(last.StartedMS))
	if revision != 0 && since < l.cfg.ExpiryInterval && since > -l.cfg.ExpiryInterval {
		return nil
	}
	if jumped := revision != 0 && (since < 0 || since > l.cfg.ExpiryInterval+reapJumpMax); jumped {
		return l.skipReap(ctx, now, since, &last, revision)
	}
	return l.reapNow(ctx, now, &last, revision)
}

// skipReap says what time it is here and deletes nothing. If no node
// contradicts, the next pass does.
func (l *Library) skipReap(
	ctx context.Context, now time.Time, since time.Duration, last *reapRow, revision uint64,
) error {
	l.log.WarnContext(ctx, "nothing is deleted for its age in this pass: the last one was by another clock, "+
		"or long ago", "since", since, "last_node", last.Node)
	r := reapRow{
		Node: l.deps.NodeID, StartedMS: now.UnixMilli(), EndedMS: now.UnixMilli(), Deleted: last.Deleted,
		Error: "skipped: the last pass was by another clock, or long ago",
	}
	_, err := l.putReapRow(ctx, &r, revision)
	if errors.Is(err, blobstore.ErrConflict) {
		return nil
	}
	return err
}

// reapNow does a pass, if no other node has begun one since last was read.
func (l *Library) reapNow(ctx context.Context, now time.Time, last *reapRow, revision uint64) error {
	r := reapRow{Node: l.deps.NodeID, StartedMS: now.UnixMilli(), Deleted: last.Deleted}
	revision, err := l.putReapRow(ctx, &r, revision)
	if errors.Is(err, blobstore.ErrConflict) {
		return nil // another node was first
	}
	if err != nil {
		return err
	}
	failed := errors.Join(l.expireAll(ctx, now, &r), l.purgeDue(ctx, now, &r))
	r.EndedMS = time.Now().UnixMilli()
	if failed != nil {
		r.Error = strings.ToValidUTF8(fmt.Sprintf("%.200v", failed), "?")
	}
	l.metrics.reaped(&r)
	_, err = l.putReapRow(ctx, &r, revision)
	if r.Expired.Items > 0 || r.Purged.Items > 0 {
		l.log.InfoContext(ctx, "deleted what was too old", "expired_items", r.Expired.Items,
			"expired_bytes", r.Expired.Bytes, "purged_items", r.Purged.Items, "purged_bytes", r.Purged.Bytes)
	}
	return errors.Join(failed, err)
}

func (l *Library) putReapRow(ctx context.Context, r *reapRow, revision uint64) (uint64, error) {
	value, err := rows.Encode(r)
	if err != nil {
		return 0, err
	}
	return l.rows.Commit(ctx, blobstore.Txn{
		If:  []blobstore.Cond{{Key: reapKey, Revision: revision}},
		Put: []blobstore.Row{{Key: reapKey, Value: value}},

		Frees: true, // what follows does
	})
}

// expiryOf is when a document's retention is over, false for never. A second
// name has no sound, and a prompt is wanted until somebody says otherwise.
func expiryOf(d *Document, retention map[Class]int64) (time.Time, bool) {
	seconds := retention[d.Class]
	if seconds <= 0 || d.AliasOf != "" || d.Prompt != "" {
		return time.Time{}, false
	}
	return d.Stored.Add(time.Duration(seconds) * time.Second), true
}

// expireAll deletes what the accounts' retention has made due.
func (l *Library) expireAll(ctx context.Context, now time.Time, r *reapRow) error {
	var accounts []AccountSettings
	for row, err := range l.rows.Scan(ctx, accountPrefix, "") {
		if err != nil {
			return fmt.Errorf("scan accounts: %w", err)
		}
		name := strings.TrimSuffix(row.Key[len(accountPrefix):], "/")
		s, err := decodeAccount(name, row)
		if err != nil {
			return err
		}
		if len(s.RetentionSeconds) > 0 {
			accounts = append(accounts, s)
		}
	}
	var errs []error
	for i := range accounts {
		s := &accounts[i]
		err := errors.Join(l.expireAccount(ctx, now, s, r), l.expireRecordings(ctx, now, s, r))
		if err != nil {
			errs = append(errs, fmt.Errorf("account %s: %w", accounts[i].Account, err))
		}
	}
	return errors.Join(errs...)
}

func (l *Library) expireAccount(ctx context.Context, now time.Time, s *AccountSettings, r *reapRow) error {
	for after, more := "", true; more; {
		var due []Document
		more = false
		for d, err := range l.expiring(ctx, s.Account, s.RetentionSeconds, now, after) {
			if err != nil {
				return err
			}
			after = mediaKey(d.Account, d.ID)
			if due = append(due, d); len(due) == reapReadAhead {
				more = true // the view is not kept open while they are being deleted
				break
			}
		}
		for len(due) > 0 {
			n := min(len(due), reapBatch)
			if err := l.expire(ctx, now, due[:n], r); err != nil {
				return err
			}
			due = due[n:]
		}
	}
	return nil
}

// expire deletes documents in one commit, or one by one if one of them has
// changed. One that changed is left for the next pass.
func (l *Library) expire(ctx context.Context, now time.Time, due []Document, r *reapRow) error {
	how := deletion{DeletedByRetention, now, l.cfg.UndeleteWindow}
	commit := func(batch []Document) error {
		c := l.newChange()
		var bytes int64
		for i := range batch {
			c.deleteDocument(ctx, &batch[i], how)
			bytes += batch[i].Size
		}
		txn, err := c.Done()
		if err == nil {
			_, err = l.rows.Commit(ctx, txn)
		}
		if err == nil {
			r.Expired.Items += int64(len(batch))
			r.Expired.Bytes += bytes
		}
		return err
	}
	err := commit(due)
	if !errors.Is(err, blobstore.ErrConflict) {
		return err
	}
	for i := range due {
		if err := commit(due[i : i+1]); err != nil && !errors.Is(err, blobstore.ErrConflict) {
			return err
		}
	}
	return nil
}

// purgeDue deletes for good what cannot be brought back any more, and counts
// what can.
func (l *Library) purgeDue(ctx context.Context, now time.Time, r *reapRow) error {
	r.Deleted = Usage{}
	for after, more := "", true; more; {
		var due []Document
		more = false
		for row, err := range l.rows.Scan(ctx, deletedPrefix, after) {
			if err != nil {
				return fmt.Errorf("scan deleted items: %w", err)
			}
			after = row.Key
			account, rest, _ := strings.Cut(row.Key[len(deletedPrefix):], "/")
			d, err := l.decodeDeleted(account, rest, row)
			if err != nil {
				return err
			}
			if d.Deletion.Until.After(now) {
				r.Deleted.Items++
				r.Deleted.Bytes += d.Size
				continue
			}
			if due = append(due, d); len(due) == purgeBatch {
				more = true
				break
			}
		}
		if len(due) == 0 {
			continue
		}
		if err := l.forgetAll(ctx, due); err != nil {
			return err
		}
		for i := range due {
			r.Purged.Items++
			r.Purged.Bytes += due[i].Size
		}
	}
	return nil
}
