package library

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"carillon/audio"
	"carillon/blobstore"
	"carillon/library/rows"
	"carillon/library/spool"
)

// stateSpooled is Document.State of an upload that waits.
const stateSpooled = "spooled"

// errSuperseded: the item was written elsewhere after the spooled write.
var errSuperseded = errors.New("the item was written again after this")

// spoolEnd is what completes an upload: all that its document is made of. The
// names of the fields are a format.
type spoolEnd struct {
	Options PutOptions
	Blob    string
	Totals  blobstore.Totals
	Info    audio.Info
	Ingest  *spoolIngest `json:",omitempty"`
}

// spoolIngest is what an upload has beside that is the file of a recording.
type spoolIngest struct {
	Recording string
	By        EndedBy
	Began     time.Time
	Warning   string `json:",omitempty"`
}

// spoolWriter returns the writer of an upload, or nil for one with conditions:
// whether those hold only a majority can say.
func (l *Library) spoolWriter(account, id string, opts *PutOptions) *spool.Writer {
	if opts.IfMatch != "" || opts.IfNoneMatch != "" {
		return nil
	}
	return l.spool.Upload(account, id)
}

// storeUpload commits an upload, or leaves it in the spool if there is no
// leader. One whose sound went there goes there whole.
func (l *Library) storeUpload(
	ctx context.Context, w *spool.Writer, u upload,
) (d Document, created bool, err error) {
	if w == nil {
		return l.commitUpload(ctx, &u, nil)
	}
	if w.Item() == nil {
		bounded, cancel := l.spool.WhileLed(ctx)
		d, created, err = l.commitUpload(bounded, &u, nil)
		cancel()
		if err == nil || !l.spool.Refused(ctx, err) {
			return d, created, err
		}
	}
	d, err = l.putSpooled(ctx, w, &u)
	return d, false, err
}

// putSpooled completes a spooled upload. It is acknowledged as such.
func (l *Library) putSpooled(ctx context.Context, w *spool.Writer, u *upload) (Document, error) {
	before, err := l.current(ctx, u.account, u.id)
	if err != nil {
		return Document{}, err
	}
	d, err := l.replacing(ctx, &u.opts, before, u.account, u.id) // as far as this node knows
	if err != nil {
		return Document{}, err
	}
	item, err := w.Whole(ctx, u.sound.blob, u.sound.totals, u.sound.whole)
	if err != nil {
		return Document{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	end, err := json.Marshal(spoolEnd{u.opts, u.sound.blob.String(), u.sound.totals, u.sound.info, u.ingest})
	if err == nil {
		err = item.Finish(end)
	}
	if err != nil {
		return Document{}, errors.Join(fmt.Errorf("%w: %w", ErrUnavailable, err), item.Remove())
	}
	d.sounds(&u.sound)
	d.State, d.SpoolID = stateSpooled, item.Name()
	spoolMeter{l.metrics}.Spooled(spool.Upload)
	l.log.WarnContext(ctx, "no leader: upload went to the spool", "account", d.Account, "item", d.ID,
		"spool_id", d.SpoolID, "bytes", d.Size)
	return d, nil
}

// unlessSpooled turns the ErrNotFound of a name into ErrUnavailable if an upload
// of that name waits on this node: who stored it was told so, and it will be
// there. It cannot be heard before: what it is, and whether it is anything by
// now, a majority says when it is replayed.
func (l *Library) unlessSpooled(err error, account, id string) error {
	if errors.Is(err, ErrNotFound) && l.spool.HoldsItem(account, id) {
		return fmt.Errorf("item %s/%s waits on this node for a majority: %w", account, id, ErrUnavailable)
	}
	return err
}

// replayer is the library as spool.Spool sees it.
type replayer struct{ l *Library }

// Live implements spool.Replayer.
func (r replayer) Live(recordingID string) bool { return r.l.session(recordingID) != nil }

// ReplayRecording implements spool.Replayer.
func (r replayer) ReplayRecording(ctx context.Context, item *blobstore.SpoolItem) error {
	return r.l.replayRecording(ctx, item)
}

// ReplayUpload stores a spooled upload as if it came now, unless somebody wrote
// the item after it had arrived: of two writes the later counts, by the clocks
// of the nodes that took them. Again after it was stored: success, whatever
// became of it since: what refers to its blob was committed with it, also when
// nobody told this node and the catalog has forgotten the commit's name.
func (r replayer) ReplayUpload(ctx context.Context, item *blobstore.SpoolItem) error {
	l := r.l
	var m spool.Meta
	var end spoolEnd
	raw, _ := item.End()
	if err := errors.Join(json.Unmarshal(item.Meta(), &m), json.Unmarshal(raw, &end)); err != nil {
		return fmt.Errorf("%w: %w", blobstore.ErrCorrupt, err)
	}
	blob, err := blobstore.ParseID(end.Blob)
	if err != nil {
		return err
	}
	if err := l.rows.Fresh(ctx); err != nil {
		return err
	}
	if committed, err := l.referenced(ctx, blob); committed || err != nil {
		return err
	}
	if err := l.spool.Operations(ctx, item); err != nil {
		return err
	}
	u := upload{
		account: m.Account, id: m.Item, opts: end.Options, arrived: item.Created(), ingest: end.Ingest,
		sound: sound{blob: blob, totals: end.Totals, info: end.Info},
	}
	if done, err := l.replayIngest(ctx, &u); done || err != nil {
		return err
	}
	_, _, err = l.commitUpload(ctx, &u, func(before *Document) error {
		switch {
		case before == nil:
			return nil
		case before.Blob == blob:
			return rows.ErrDone
		case before.Modified.After(item.Created()):
			return fmt.Errorf("revision %d of %s: %w", before.Revision,
				before.Modified.Format(time.RFC3339Nano), errSuperseded)
		}
		return nil
	})
	if errors.Is(err, rows.ErrDone) {
		return nil
	}
	return err
}

// referenced says whether anything refers to a blob: a document, also one that was
// deleted and can come back, a recording, or an export.
func (l *Library) referenced(ctx context.Context, blob blobstore.ID) (bool, error) {
	for _, err := range l.rows.Scan(ctx, blobstore.RefKey(blob, ""), "") {
		if err != nil {
			return false, fmt.Errorf("references of %s: %w", blob, err)
		}
		return true, nil
	}
	return false, nil
}

// replayIngest makes of a spooled file the recording that it came for, and says
// whether that is done. It is not when another has used the ticket or it has
// expired, or the item that it names was written after the file had arrived: then
// the file is an upload like any other.
func (l *Library) replayIngest(ctx context.Context, u *upload) (done bool, err error) {
	if u.ingest == nil {
		return false, nil
	}
	s, err := l.freshRecording(ctx, u.ingest.Recording)
	if err == nil && s.StoreAs != "" {
		var item *Document
		item, err = l.current(ctx, s.Account, s.StoreAs)
		if err == nil && item != nil && item.Modified.After(u.arrived) {
			return false, nil
		}
	}
	if err == nil {
		_, _, err = l.commitIngest(ctx, s.ID, &u.sound, u.ingest.Began, &outcome{
			totals: u.sound.totals, info: &u.sound.info, by: u.ingest.By, ended: u.arrived, warning: u.ingest.Warning,
		})
	}
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrTicketUsed) {
		return false, nil
	}
	return err == nil, err
}
