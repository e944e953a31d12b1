package admin

import (
	"context"
	"slices"

	"carillon/library"
)

func (f *fakeLibrary) LookupAll(ctx context.Context, rs []library.LookupRequest) (
	[]library.LookupResult, error,
) {
	all := make([]library.LookupResult, len(rs))
	for i := range rs {
		all[i].Lookup, all[i].Err = f.Lookup(ctx, rs[i])
	}
	return all, nil
}

func (f *fakeLibrary) Playlist(_ context.Context, account, id string) (library.Playlist, error) {
	return library.Playlist{Account: account, ID: id, Items: []string{"a"}}, f.fail
}

func (f *fakeLibrary) PutPlaylist(
	_ context.Context, p library.Playlist, _, _ string,
) (library.Playlist, bool, error) {
	return p, true, f.fail
}

func (f *fakeLibrary) DeletePlaylist(context.Context, string, string, string) error { return f.fail }

func (f *fakeLibrary) ListPlaylists(
	context.Context, string, string, int,
) ([]library.Playlist, string, error) {
	return []library.Playlist{}, "", f.fail
}

func (f *fakeLibrary) Prompts(context.Context, string, library.PromptQuery) (library.PromptPage, error) {
	return library.PromptPage{Items: []library.Prompt{}}, f.fail
}

func (f *fakeLibrary) Languages(context.Context, string) ([]library.LanguageCount, error) {
	return []library.LanguageCount{}, f.fail
}

func (f *fakeLibrary) Copy(_ context.Context, r library.CopyRequest) (library.Document, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	doc, ok := f.docs[r.From.String()]
	if !ok {
		return doc, library.ErrNotFound
	}
	if _, there := f.docs[r.To.String()]; there && !r.Overwrite {
		return doc, library.ErrExists
	}
	doc.Account, doc.ID = r.To.Account, r.To.ID
	f.docs[r.To.String()] = doc
	return doc, f.fail
}

func (f *fakeLibrary) Rename(ctx context.Context, r library.CopyRequest) (library.Document, error) {
	doc, err := f.Copy(ctx, r)
	if err == nil {
		err = f.Delete(ctx, r.From.Account, r.From.ID, "")
	}
	return doc, err
}

func (f *fakeLibrary) Alias(_ context.Context, r library.AliasRequest) (library.Document, error) {
	return library.Document{Account: r.Alias.Account, ID: r.Alias.ID, AliasOf: r.Of.String()}, f.fail
}

func (f *fakeLibrary) Undelete(_ context.Context, r library.UndeleteRequest) (library.Document, error) {
	return library.Document{Account: r.Account, ID: r.ID}, f.fail
}

func (f *fakeLibrary) Purge(ctx context.Context, account, id, ifMatch string) error {
	return f.Delete(ctx, account, id, ifMatch)
}

func (f *fakeLibrary) Usage(_ context.Context, account string) (library.AccountUsage, error) {
	return library.AccountUsage{Account: account, Usage: library.Usage{Items: int64(len(f.docs))}}, f.fail
}

func (f *fakeLibrary) Expiring(_ context.Context, account string, _ library.ExpiryQuery) (
	library.Expiry, error,
) {
	return library.Expiry{Account: account}, f.fail
}

func (f *fakeLibrary) LastReaped(context.Context) (library.Reaped, error) {
	return library.Reaped{Node: "node-1"}, f.fail
}

func (f *fakeLibrary) Account(_ context.Context, account string, _ library.Consistency) (
	library.AccountSettings, error,
) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.accounts[account]
	if !ok {
		s.Account = account
	}
	return s, f.fail
}

func (f *fakeLibrary) UpdateAccount(
	_ context.Context, account, ifMatch string, edit func(*library.AccountSettings) error,
) (library.AccountSettings, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.accounts[account]
	if ifMatch != "" && ifMatch != s.ETag() {
		return s, library.ErrPrecondition
	}
	revision := s.Revision
	if err := edit(&s); err != nil {
		return s, err
	}
	s.Account, s.Revision = account, revision+1
	f.accounts[account] = s
	return s, f.fail
}

func (f *fakeLibrary) DeleteAccount(_ context.Context, account, _ string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.accounts[account]; !ok {
		return library.ErrNotFound
	}
	delete(f.accounts, account)
	return f.fail
}

func (f *fakeLibrary) Accounts(context.Context, string, int) ([]library.AccountSettings, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []library.AccountSettings
	for _, s := range f.accounts {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b library.AccountSettings) int {
		if a.Account < b.Account {
			return -1
		}
		return 1
	})
	return all, "", f.fail
}

func (f *fakeLibrary) Uses(_ context.Context, account, id string) (library.Uses, error) {
	return library.Uses{Account: account, ID: id, Items: []library.Use{}}, f.fail
}
