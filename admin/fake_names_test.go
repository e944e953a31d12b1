package admin

import (
	"context"
	"slices"

	"carillon/library"
)

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
