package library

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"carillon/blobstore"
	"carillon/library/rows"
)

const day = 24 * 3600

// reapAt does a pass at a time, whenever the last one was.
func reapAt(t *testing.T, l *Library, at time.Time) error {
	t.Helper()
	last, revision, err := l.reapState(t.Context())
	if err != nil && !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	return l.reapNow(t.Context(), at, &last, revision)
}

// TestWrongClock: a node whose clock is years ahead deletes nothing as long as
// another contradicts it, and a cluster that was off for weeks waits for one
// interval.
func TestWrongClock(t *testing.T) {
	t.Parallel()
	l, local := newKeeping(t)
	ctx := t.Context()
	setAccount(t, l, "acme", func(s *AccountSettings) {
		s.RetentionSeconds = map[Class]int64{ClassUpload: 30 * day}
	})
	put(t, l, "acme", "x", mp3Sound(3), PutOptions{})
	now, ahead := time.Now(), time.Now().Add(10*365*day*time.Second)
	wantErr(t, "pass", l.reapIfDue(ctx, now), nil)
	for range 3 {
		wantErr(t, "pass by the wrong clock", l.reapIfDue(ctx, ahead), nil)
		now = now.Add(time.Minute)
		wantErr(t, "pass by the right clock", l.reapIfDue(ctx, now), nil)
		ahead = ahead.Add(time.Minute)
		if r := must[Reaped](t)(l.LastReaped(ctx)); r.Error == "" || r.Expired.Items != 0 || r.Started.After(now) {
			t.Errorf("pass was %+v", r)
		}
	}
	equal(t, "items", len(keys(t, local, mediaPrefix)), 1)
	now = now.Add(40 * day * time.Second)
	wantErr(t, "first pass after weeks", l.reapIfDue(ctx, now), nil)
	equal(t, "items", len(keys(t, local, mediaPrefix)), 1)
	wantErr(t, "second pass", l.reapIfDue(ctx, now.Add(time.Hour)), nil)
	equal(t, "items", len(keys(t, local, mediaPrefix)), 0)
}

// TestRetention: what is too old goes, by class, and can be brought back; what
// must stay stays.
func TestRetention(t *testing.T) {
	t.Parallel()
	l, local := newKeeping(t)
	ctx := t.Context()
	sound := mp3Sound(3)
	put(t, l, "acme", "vm/1", sound, PutOptions{Class: ClassVoicemail})
	put(t, l, "acme", "vm/2", sound, PutOptions{Class: ClassVoicemail})
	put(t, l, "acme", "greeting", sound, PutOptions{SourceType: "voicemail"}) // an upload
	put(t, l, "acme", "en/p", sound, PutOptions{Class: ClassVoicemail, Prompt: "p", Language: "en"})
	put(t, l, "other", "vm/1", sound, PutOptions{Class: ClassVoicemail})
	put(t, l, SystemAccount, "s", sound, PutOptions{Class: ClassVoicemail})
	must[Document](t)(l.Alias(ctx, AliasRequest{Alias: ItemName{"acme", "last"}, Of: ItemName{"acme", "vm/1"}}))
	setAccount(t, l, "acme", func(s *AccountSettings) {
		s.RetentionSeconds = map[Class]int64{ClassVoicemail: 93 * day}
	})
	setAccount(t, l, SystemAccount, func(s *AccountSettings) {
		s.RetentionSeconds = map[Class]int64{ClassVoicemail: 1, ClassUpload: 1}
	})
	now := time.Now()
	later := now.Add(93*day*time.Second + time.Minute)

	preview := must[Expiry](t)(l.Expiring(ctx, "acme", ExpiryQuery{At: later, Limit: 1}))
	equal(t, "items that would go", preview.Usage, Usage{2, int64(2 * len(sound))})
	equal(t, "of class voicemail", preview.Classes[ClassVoicemail].Items, 2)
	equal(t, "shown", len(preview.Sample), 1)
	equal(t, "would go today", must[Expiry](t)(l.Expiring(ctx, "acme", ExpiryQuery{})).Items, 0)
	try := ExpiryQuery{At: later, RetentionSeconds: map[Class]int64{ClassUpload: 1}}
	equal(t, "of another retention", must[Expiry](t)(l.Expiring(ctx, "acme", try)).Sample[0].ID, "greeting")
	try.RetentionSeconds = map[Class]int64{"x": 1}
	_, err := l.Expiring(ctx, "acme", try)
	equal(t, "unknown class", fieldCode(err, "retention_seconds"), fieldUnknown)

	wantErr(t, "pass", l.reapIfDue(ctx, now), nil)
	equal(t, "items", len(keys(t, local, mediaPrefix)), 7)
	wantErr(t, "pass of another node", l.reapIfDue(ctx, now.Add(time.Minute)), nil)
	first := must[Reaped](t)(l.LastReaped(ctx))
	equal(t, "passes within the interval", first.Started.UnixMilli(), now.UnixMilli())

	wantErr(t, "pass", reapAt(t, l, later), nil)
	want := []string{
		mediaKey("acme", "en/p"), mediaKey("acme", "greeting"), mediaKey("acme", "last"), mediaKey("other", "vm/1"),
		mediaKey(SystemAccount, "s"),
	}
	if got := keys(t, local, mediaPrefix); !slices.Equal(got, want) {
		t.Errorf("left are %q", got)
	}
	r := must[Reaped](t)(l.LastReaped(ctx))
	equal(t, "expired", r.Expired, Usage{2, int64(2 * len(sound))})
	equal(t, "can be brought back", r.Deleted, Usage{2, int64(2 * len(sound))})
	if r.Ended == nil || r.Node != "node-1" || r.Error != "" {
		t.Errorf("pass was %+v", r)
	}
	page := must[Page](t)(l.List(ctx, "acme", ListQuery{Deleted: true}))
	equal(t, "reason", page.Items[0].Deletion.Reason, DeletedByRetention)
	back := must[Document](t)(l.Undelete(ctx, UndeleteRequest{Account: "acme", ID: "vm/2"}))
	if !back.Stored.After(page.Items[0].Stored.Add(-time.Millisecond)) {
		t.Error("retention does not count anew")
	}

	// The window is over.
	wantErr(t, "pass", reapAt(t, l, later.Add(2*time.Hour)), nil)
	equal(t, "rows of deleted items", len(keys(t, local, deletedPrefix)), 1) // vm/2 is old again at that time
	wantErr(t, "pass", reapAt(t, l, later.Add(24*time.Hour)), nil)
	equal(t, "rows of deleted items", len(keys(t, local, deletedPrefix)), 0)
	equal(t, "references", len(refs(t, local)), 4)
}

// TestReapMany: more than one commit and one read-ahead can take.
func TestReapMany(t *testing.T) {
	t.Parallel()
	l, local := newKeeping(t)
	ctx := t.Context()
	d := put(t, l, "acme", "x", mp3Sound(3), PutOptions{})
	const items = 2*reapReadAhead + reapBatch/2
	for n := 0; n < items; {
		var txn blobstore.Txn
		for ; n < items && len(txn.Put) < blobstore.TxnOpsMax-1; n++ {
			d.ID = rows.NewID(time.Now())
			value := must[[]byte](t)(encodeDocument(&d))
			key := mediaKey("acme", d.ID)
			txn.Put = append(txn.Put, blobstore.Row{Key: key, Value: value, Weight: 1},
				blobstore.Row{Key: blobstore.RefKey(d.Blob, key), Value: rows.EncodeText("")})
		}
		must[uint64](t)(local.Commit(ctx, txn))
	}
	setAccount(t, l, "acme", func(s *AccountSettings) { s.RetentionSeconds = map[Class]int64{ClassUpload: 60} })
	later := time.Now().Add(2 * time.Minute)
	wantErr(t, "pass", reapAt(t, l, later), nil)
	equal(t, "items left", len(keys(t, local, mediaPrefix)), 0)
	equal(t, "deleted", len(keys(t, local, deletedPrefix)), items+1)
	wantErr(t, "pass", reapAt(t, l, later.Add(2*time.Hour)), nil)
	equal(t, "deleted", len(keys(t, local, deletedPrefix)), 0)
	equal(t, "references", len(refs(t, local)), 0)
	equal(t, "purged", must[Reaped](t)(l.LastReaped(ctx)).Purged.Items, items+1)
}

// TestReapOnce: of two nodes of which each looks by itself, one does the pass.
func TestReapOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		local := openLocal(t, t.TempDir())
		first, second := testDeps(local), testDeps(local)
		second.NodeID = "node-2"
		cfg := testConfig()
		cfg.ExpiryInterval = time.Hour
		a, err := Open(t.Context(), cfg, first)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Open(t.Context(), cfg, second)
		if err != nil {
			t.Fatal(err)
		}
		passes := 0
		var last uint64
		for end := time.Now().Add(150 * time.Minute); time.Now().Before(end); time.Sleep(10 * time.Second) {
			_, revision, err := a.reapState(t.Context())
			if err == nil && revision != last {
				passes++
				last = revision
			}
		}
		if passes != 3 {
			t.Errorf("%d passes in two and a half hours", passes)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestRetentionOfRecordings: what nobody stored expires with class recording,
// and can be brought back; what is live, stored or being sent stays.
func TestRetentionOfRecordings(t *testing.T) {
	t.Parallel()
	l, local := newKeeping(t)
	ctx := t.Context()
	sound := mp3Sound(20)
	left := ticket(t, l, RecordingRequest{Name: "left.mp3", Metadata: map[string]string{"call": "1"}})
	record(t, l, left, sound, EndedClean)
	kept := ticket(t, l, RecordingRequest{Name: "kept.mp3"})
	record(t, l, kept, sound, EndedClean)
	gone := ticket(t, l, RecordingRequest{Name: "gone.mp3"})
	record(t, l, gone, sound, EndedCut)
	for id, item := range map[string]string{kept.ID: "kept", gone.ID: "gone"} {
		must[Document](t)(l.StoreRecording(ctx, id, StoreRequest{Account: "acme", ID: item, Class: ClassVoicemail}))
	}
	wantErr(t, "purge", l.Purge(ctx, "acme", "gone", ""), nil)
	live := ticket(t, l, RecordingRequest{Name: "live.mp3"})
	session := must[*Session](t)(l.Claim(ctx, ticketRequest(l, live)))
	write(t, session, sound)
	later := time.Now().Add(2 * day * time.Second)

	wantErr(t, "pass without a retention", reapAt(t, l, later), nil)
	equal(t, "recordings", len(keys(t, local, recordingPrefix)), 4)
	setAccount(t, l, "acme", func(s *AccountSettings) {
		s.RetentionSeconds = map[Class]int64{ClassRecording: day}
	})
	preview := must[Expiry](t)(l.Expiring(ctx, "acme", ExpiryQuery{At: later}))
	equal(t, "items that would go", preview.Usage, Usage{1, int64(len(sound))})
	equal(t, "name of it", preview.Sample[0].ID, "left.mp3")
	equal(t, "would go today", must[Expiry](t)(l.Expiring(ctx, "acme", ExpiryQuery{})).Items, 0)

	later = later.Add(2 * time.Hour)
	wantErr(t, "pass", reapAt(t, l, later), nil)
	want := []string{recordingKey(kept.ID), recordingKey(live.ID)}
	if got := keys(t, local, recordingPrefix); !slices.Equal(got, want) {
		t.Errorf("recordings left are %q, want %q", got, want)
	}
	equal(t, "names left", len(keys(t, local, namePrefix)), 2)
	_, err := l.Mount(ctx, "acme", "left.mp3")
	wantErr(t, "what expired", err, ErrNotFound)
	d := must[Document](t)(l.Undelete(ctx, UndeleteRequest{Account: "acme", ID: "left.mp3"}))
	equal(t, "metadata of what came back", d.Metadata["call"], "1")
	equal(t, "source", d.Source, sourceRecording)
	equal(t, "bytes", len(readItem(t, l, d)), len(sound))
	wantErr(t, "close", session.Close(bounded(t), EndedClean), nil)
	equal(t, "references", len(refs(t, local)), 3)
}
