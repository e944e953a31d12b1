package library

import (
	"context"
	"fmt"
	"strings"

	"carillon/library/naming"
	"carillon/library/rows"
)

// Accounts lists the accounts that have media or settings, in the order of
// their keys ("a-b" before "a"), and the after of the next page, "" at the end. Limit 0 is
// PageLimitDefault.
func (l *Library) Accounts(
	ctx context.Context, after string, limit int,
) (found []AccountSettings, next string, err error) {
	if limit, err = rows.PageLimit(limit); err != nil {
		return nil, "", err
	}
	if after != "" {
		if err := naming.CheckAccount(after); err != nil {
			return nil, "", err
		}
	}
	if after == "" {
		if err := l.rows.CatchUp(ctx); err != nil {
			return nil, "", err
		}
	}
	found = []AccountSettings{}
	for len(found) < limit {
		name, err := l.accountAfter(ctx, after)
		if err != nil {
			return nil, "", err
		}
		if name == "" {
			return found, "", nil
		}
		s, err := l.settings(ctx, name)
		if err != nil {
			return nil, "", err
		}
		found, after = append(found, s.clone()), name
	}
	return found, after, nil
}

// accountAfter is the first account after one, "" at the end. It reads two
// rows, however many media an account has.
func (l *Library) accountAfter(ctx context.Context, after string) (string, error) {
	first := ""
	for _, prefix := range []string{mediaPrefix, accountPrefix} {
		from := ""
		if after != "" {
			from = prefix + after + "/\xff" // no id begins so: they are UTF-8
		}
		for row, err := range l.rows.Scan(ctx, prefix, from) {
			if err != nil {
				return "", fmt.Errorf("list accounts: %w", err)
			}
			name, _, _ := strings.Cut(row.Key[len(prefix):], "/")
			if first == "" || name+"/" < first+"/" { // as keys sort: '-' and '.' are before '/'
				first = name
			}
			break
		}
	}
	return first, nil
}
