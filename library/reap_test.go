package library

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"carillon/blobstore"
	"carillon/library/field"
	"carillon/library/libtest"
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
	libtest.WantErr(t, "pass", l.reapIfDue(ctx, now), nil)
	for range 3 {
		libtest.WantErr(t, "pass by the wrong clock", l.reapIfDue(ctx, ahead), nil)
		now = now.Add(time.Minute)
		libtest.WantErr(t, "pass by the right clock", l.reapIfDue(ctx, now), nil)
		ahead = ahead.Add(time.Minute)
		if r := libtest.Must[Reaped](t)(l.LastReaped(ctx)); r.Error == "" || r.Expired.Items != 0 ||
			r.Started.After(now) {
			t.Errorf("pass was %+v", r)
		}
	}
	libtest.Equal(t, "items", len(libtest.Keys(t, local, mediaPrefix)), 1)
	now = now.Add(40 * day * time.Second)
	libtest.WantErr(t, "first pass after weeks", l.reapIfDue(ctx, now), nil)
	libtest.Equal(t, "items", len(libtest.Keys(t, local, mediaPrefix)), 1)
	libtest.WantErr(t, "second pass", l.reapIfDue(ctx, now.Add(time.Hour)), nil)
	libtest.Equal(t, "items", len(libtest.Keys(t, local, mediaPrefix)), 0)
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
	libtest.Must[Document](t)(l.Alias(ctx,
		AliasRequest{Alias: ItemName{"acme", "last"}, Of: ItemName{"acme", "vm/1"}}))
	setAccount(t, l, "acme", func(s *AccountSettings) {
		s.RetentionSeconds = map[Class]int64{ClassVoicemail: 93 * day}
	})
	setAccount(t, l, SystemAccount, func(s *AccountSettings) {
		s.RetentionSeconds = map[Class]int64{ClassVoicemail: 1, ClassUpload: 1}
	})
	now := time.Now()
	later := now.Add(93*day*time.Second + time.Minute)

	preview := libtest.Must[Expiry](t)(l.Expiring(ctx, "acme", ExpiryQuery{At: later, Limit: 1}))
	libtest.Equal(t, "items that would go", preview.Usage, Usage{2, int64(2 * len(sound))})
	libtest.Equal(t, "of class voicemail", preview.Classes[ClassVoicemail].Items, 2)
	libtest.Equal(t, "shown", len(preview.Sample), 1)
	libtest.Equal(t, "would go today", libtest.Must[Expiry](t)(l.Expiring(ctx, "acme", ExpiryQuery{})).Items, 0)
	try := ExpiryQuery{At: later, RetentionSeconds: map[Class]int64{ClassUpload: 1}}
	libtest.Equal(t, "of another retention",
		libtest.Must[Expiry](t)(l.Expiring(ctx, "acme", try)).Sample[0].ID, "greeting")
	try.RetentionSeconds = map[Class]int64{"x": 1}
	_, err := l.Expiring(ctx, "acme", try)
	libtest.Equal(t, "unknown class", fieldCode(err, "retention_seconds"), field.Unknown)

	libtest.WantErr(t, "pass", l.reapIfDue(ctx, now), nil)
	libtest.Equal(t, "items", len(libtest.Keys(t, local, mediaPrefix)), 7)
	libtest.WantErr(t, "pass of another node", l.reapIfDue(ctx, now.Add(time.Minute)), nil)
	first := libtest.Must[Reaped](t)(l.LastReaped(ctx))
	libtest.Equal(t, "passes within the interval", first.Started.UnixMilli(), now.UnixMilli())

	libtest.WantErr(t, "pass", reapAt(t, l, later), nil)
	want := []string{
		mediaKey("acme", "en/p"), mediaKey("acme", "greeting"), mediaKey("acme", "last"), mediaKey("other", "vm/1"),
		mediaKey(SystemAccount, "s"),
	}
	if got := libtest.Keys(t, local, mediaPrefix); !slices.Equal(got, want) {
		t.Errorf("left are %q", got)
	}
	r := libtest.Must[Reaped](t)(l.LastReaped(ctx))
	libtest.Equal(t, "expired", r.Expired, Usage{2, int64(2 * len(sound))})
	libtest.Equal(t, "can be brought back", r.Deleted, Usage{2, int64(2 * len(sound))})
	if r.Ended == nil || r.Node != "node-1" || r.Error != "" {
		t.Errorf("pass was %+v", r)
	}
	page := libtest.Must[Page](t)(l.List(ctx, "acme", ListQuery{Deleted: true}))
	libtest.Equal(t, "reason", page.Items[0].Deletion.Reason, DeletedByRetention)
	back := libtest.Must[Document](t)(l.Undelete(ctx, UndeleteRequest{Account: "acme", ID: "vm/2"}))
	if !back.Stored.After(page.Items[0].Stored.Add(-time.Millisecond)) {
		t.Error("retention does not count anew")
	}

	// The window is over.
	libtest.WantErr(t, "pass", reapAt(t, l, later.Add(2*time.Hour)), nil)
	libtest.Equal(t, "rows of deleted items", len(libtest.Keys(t, local, deletedPrefix)),
		1) // vm/2 is old again at that time
	libtest.WantErr(t, "pass", reapAt(t, l, later.Add(24*time.Hour)), nil)
	libtest.Equal(t, "rows of deleted items", len(libtest.Keys(t, local, deletedPrefix)), 0)
	libtest.Equal(t, "references", len(refs(t, local)), 4)
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
			value := libtest.Must[[]byte](t)(encodeDocument(&d))
			key := mediaKey("acme", d.ID)
			txn.Put = append(txn.Put, blobstore.Row{Key: key, Value: value, Weight: 1},
				blobstore.Row{Key: blobstore.RefKey(d.Blob, key), Value: rows.EncodeText("")})
		}
		libtest.Must[uint64](t)(local.Commit(ctx, txn))
	}
	setAccount(t, l, "acme", func(s *AccountSettings) { s.RetentionSeconds = map[Class]int64{ClassUpload: 60} })
	later := time.Now().Add(2 * time.Minute)
	libtest.WantErr(t, "pass", reapAt(t, l, later), nil)
	libtest.Equal(t, "items left", len(libtest.Keys(t, local, mediaPrefix)), 0)
	libtest.Equal(t, "deleted", len(libtest.Keys(t, local, deletedPrefix)), items+1)
	libtest.WantErr(t, "pass", reapAt(t, l, later.Add(2*time.Hour)), nil)
	libtest.Equal(t, "deleted", len(libtest.Keys(t, local, deletedPrefix)), 0)
	libtest.Equal(t, "references", len(refs(t, local)), 0)
	libtest.Equal(t, "purged", libtest.Must[Reaped](t)(l.LastReaped(ctx)).Purged.Items, items+1)
}

// TestReapOnce: of two nodes of which each looks by itself, one does the pass.
func TestReapOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		local := libtest.OpenStore(t, t.TempDir())
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
		libtest.Must[Document](t)(l.StoreRecording(ctx, id,
			StoreRequest{Account: "acme", ID: item, Class: ClassVoicemail}))
	}
	libtest.WantErr(t, "purge", l.Purge(ctx, "acme", "gone", ""), nil)
	live := ticket(t, l, RecordingRequest{Name: "live.mp3"})
	session := libtest.Must[*Session](t)(l.Claim(ctx, ticketRequest(l, live)))
	write(t, session, sound)
	later := time.Now().Add(2 * day * time.Second)

	libtest.WantErr(t, "pass without a retention", reapAt(t, l, later), nil)
	libtest.Equal(t, "recordings", len(libtest.Keys(t, local, recordingPrefix)), 4)
	setAccount(t, l, "acme", func(s *AccountSettings) {
		s.RetentionSeconds = map[Class]int64{ClassRecording: day}
	})
	preview := libtest.Must[Expiry](t)(l.Expiring(ctx, "acme", ExpiryQuery{At: later}))
	libtest.Equal(t, "items that would go", preview.Usage, Usage{1, int64(len(sound))})
	libtest.Equal(t, "name of it", preview.Sample[0].ID, "left.mp3")
	libtest.Equal(t, "would go today", libtest.Must[Expiry](t)(l.Expiring(ctx, "acme", ExpiryQuery{})).Items, 0)

	later = later.Add(2 * time.Hour)
	libtest.WantErr(t, "pass", reapAt(t, l, later), nil)
	want := []string{recordingKey(kept.ID), recordingKey(live.ID)}
	if got := libtest.Keys(t, local, recordingPrefix); !slices.Equal(got, want) {
		t.Errorf("recordings left are %q, want %q", got, want)
	}
	libtest.Equal(t, "names left", len(libtest.Keys(t, local, namePrefix)), 2)
	_, err := l.Mount(ctx, "acme", "left.mp3")
	libtest.WantErr(t, "what expired", err, ErrNotFound)
	d := libtest.Must[Document](t)(l.Undelete(ctx, UndeleteRequest{Account: "acme", ID: "left.mp3"}))
	libtest.Equal(t, "metadata of what came back", d.Metadata["call"], "1")
	libtest.Equal(t, "source", d.Source, sourceRecording)
	libtest.Equal(t, "bytes", len(readItem(t, l, d)), len(sound))
	libtest.WantErr(t, "close", session.Close(libtest.Bounded(t), EndedClean), nil)
	libtest.Equal(t, "references", len(refs(t, local)), 3)
}
