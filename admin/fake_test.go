package admin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"carillon/library"
	"carillon/library/feed"
	"carillon/library/spool"
)

// fakeLibrary is a library in memory, as far as the API can tell.
type fakeLibrary struct {
	mu               sync.Mutex // guards the fields below
	puts             int        // calls of Put
	reads            int        // of them, those that got at least one byte
	docs             map[string]library.Document
	bytes            map[string][]byte
	recordings       map[string]library.Recording
	accounts         map[string]library.AccountSettings
	lookups          []library.LookupRequest
	recordingLibrary // what of these is not faked panics
	exportLibrary
	editLibrary
	webhookLibrary
	backupLibrary
	fail error // what every call returns, if set
}

func newFake() *fakeLibrary {
	return &fakeLibrary{
		docs: map[string]library.Document{}, bytes: map[string][]byte{},
		recordings: map[string]library.Recording{}, accounts: map[string]library.AccountSettings{},
	}
}

func (f *fakeLibrary) Put(_ context.Context, account, id string, body io.Reader, opts library.PutOptions) (
	library.Document, bool, error,
) {
	f.mu.Lock()
	f.puts++
	fail := f.fail
	f.mu.Unlock()
	if fail != nil {
		return library.Document{}, false, fail
	}
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(body, uploadBytesMax+1))
	f.mu.Lock()
	defer f.mu.Unlock()
	if n > 0 {
		f.reads++
	}
	switch {
	case err != nil:
		return library.Document{}, false, fmt.Errorf("read the body: %w: %w", library.ErrIncomplete, err)
	case n > uploadBytesMax:
		return library.Document{}, false, library.ErrTooLarge
	case n == 0:
		return library.Document{}, false, library.ErrUnsupportedMedia
	}
	sum := sha256.Sum256(b.Bytes())
	key := account + "/" + id
	old, there := f.docs[key]
	doc := library.Document{
		Account: account, ID: id, Revision: old.Revision + 1, Size: n, SHA256: hex.EncodeToString(sum[:]),
		ContentType: "audio/x-wav", Name: opts.Name, Description: opts.Description, Language: opts.Language,
		Prompt: opts.Prompt, Metadata: opts.Metadata,
		Created: time.Unix(1, 0).UTC(), Modified: time.Unix(2, 0).UTC(),
	}
	if opts.IfNoneMatch == "*" && there || opts.IfMatch != "" && opts.IfMatch != old.ETag() {
		return library.Document{}, false, library.ErrPrecondition
	}
	f.docs[key], f.bytes[key] = doc, b.Bytes()
	return doc, !there, nil
}

func (f *fakeLibrary) Get(_ context.Context, account, id string, _ library.Consistency) (
	library.Document, error,
) {
	f.mu.Lock()
	defer f.mu.Unlock()
	doc, ok := f.docs[account+"/"+id]
	if !ok {
		return doc, fmt.Errorf("item %s/%s: %w", account, id, library.ErrNotFound)
	}
	return doc, f.fail
}

func (f *fakeLibrary) Delete(_ context.Context, account, id, ifMatch string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	doc, ok := f.docs[account+"/"+id]
	if !ok {
		return library.ErrNotFound
	}
	if ifMatch != "" && ifMatch != doc.ETag() {
		return library.ErrPrecondition
	}
	delete(f.docs, account+"/"+id)
	return f.fail
}

func (f *fakeLibrary) Update(_ context.Context, account, id string, p library.Patch) (
	library.Document, error,
) {
	f.mu.Lock()
	defer f.mu.Unlock()
	doc, ok := f.docs[account+"/"+id]
	if !ok {
		return doc, library.ErrNotFound
	}
	if p.IfMatch != "" && p.IfMatch != doc.ETag() {
		return doc, library.ErrPrecondition
	}
	if p.Name != nil {
		doc.Name = *p.Name
	}
	if p.Language != nil {
		doc.Language = *p.Language
	}
	if p.Metadata != nil {
		doc.Metadata = p.Metadata
	}
	doc.Revision++
	f.docs[account+"/"+id] = doc
	return doc, nil
}

func (f *fakeLibrary) List(_ context.Context, account string, q library.ListQuery) (library.Page, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ids []string
	for _, doc := range f.docs {
		if doc.Account == account && strings.HasPrefix(doc.ID, q.Prefix) && doc.ID > q.After &&
			(q.Language == "" || doc.Language == q.Language) && (q.Prompt == "" || doc.Prompt == q.Prompt) {
			ids = append(ids, doc.ID)
		}
	}
	slices.Sort(ids)
	limit := q.Limit
	if limit == 0 {
		limit = library.PageLimitDefault
	}
	var page library.Page
	for _, id := range ids {
		if len(page.Items) == limit {
			page.Next = page.Items[limit-1].ID
			break
		}
		page.Items = append(page.Items, f.docs[account+"/"+id])
	}
	return page, nil
}

func (f *fakeLibrary) Lookup(_ context.Context, r library.LookupRequest) (library.Lookup, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lookups = append(f.lookups, r)
	if r.Name == "" {
		return library.Lookup{}, fmt.Errorf("name is empty: %w", library.ErrBadRequest)
	}
	doc, ok := f.docs[r.Account+"/"+r.Name]
	if !ok {
		return library.Lookup{}, library.ErrNotFound
	}
	return library.Lookup{StreamURL: "http://here/play/t/" + doc.ID, Type: doc.ContentType, ID: doc.ID}, nil
}

func (f *fakeLibrary) CreateRecording(_ context.Context, r library.RecordingRequest) (
	library.Recording, error,
) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return library.Recording{}, f.fail
	}
	rec := library.Recording{
		ID: fmt.Sprintf("rec%d", len(f.recordings)), Account: r.Account, Name: r.Name, State: library.StateWaiting,
		Token: "t1cket-secret", StoreAs: r.StoreAs, Metadata: r.Metadata,
	}
	f.recordings[rec.ID] = rec
	return rec, nil
}

func (f *fakeLibrary) Recording(_ context.Context, id string) (library.Recording, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	rec, ok := f.recordings[id]
	if !ok {
		return rec, library.ErrNotFound
	}
	rec.Token = ""
	return rec, nil
}

func (f *fakeLibrary) ListRecordings(_ context.Context, account, after string, limit int) (
	[]library.Recording, string, error,
) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var recs []library.Recording
	for _, rec := range f.recordings {
		if (account == "" || rec.Account == account) && rec.ID > after {
			rec.Token = ""
			recs = append(recs, rec)
		}
	}
	slices.SortFunc(recs, func(a, b library.Recording) int { return strings.Compare(a.ID, b.ID) })
	if len(recs) > limit {
		return recs[:limit], recs[limit-1].ID, nil
	}
	return recs, "", nil
}

func (f *fakeLibrary) StoreRecording(_ context.Context, recordingID string, r library.StoreRequest) (
	library.Document, error,
) {
	f.mu.Lock()
	defer f.mu.Unlock()
	rec, ok := f.recordings[recordingID]
	switch {
	case !ok:
		return library.Document{}, library.ErrNotFound
	case rec.State != library.StateSealed:
		return library.Document{}, fmt.Errorf("recording is %s: %w", rec.State, library.ErrState)
	}
	return library.Document{Account: r.Account, ID: r.ID, SHA256: strings.Repeat("ab", 32)}, nil
}

func (f *fakeLibrary) DiscardRecording(_ context.Context, recordingID string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.recordings[recordingID]; !ok {
		return library.ErrNotFound
	}
	delete(f.recordings, recordingID)
	return nil
}

func (f *fakeLibrary) RecordURL(r library.Recording) string {
	return "shout://u:" + r.Token + "@127.0.0.1:8000/" + r.Name
}

// counts returns the calls of Put and those of them that got a byte.
func (f *fakeLibrary) counts() (puts, reads int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.puts, f.reads
}

func (f *fakeLibrary) Events(context.Context, feed.Query, int) (feed.Page, error) {
	return feed.Page{}, f.fail
}

func (f *fakeLibrary) EventsNow() feed.Position { return feed.Position{} }

func (f *fakeLibrary) WatchEvents() (<-chan struct{}, func()) { return nil, func() {} }
func (f *fakeLibrary) Spooled() []spool.Entry                 { return []spool.Entry{} }

func (f *fakeLibrary) SpoolEntry(string) (spool.Entry, error) {
	return spool.Entry{}, library.ErrNotFound
}

func (f *fakeLibrary) SourceAccount(string, string) (string, bool) { return "", false }
