package library

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	"carillon/blobstore"
	"carillon/library/field"
	"carillon/library/naming"
	"carillon/library/rows"
)

// List returns documents in the order of their ids; deleted ones in that order,
// too, and those of one id the newest first.
func (l *Library) List(ctx context.Context, account string, q ListQuery) (Page, error) {
	base, after, err := q.place(account)
	if err != nil {
		return Page{}, err
	}
	limit, err := rows.PageLimit(q.Limit)
	if err != nil {
		return Page{}, err
	}
	if q.After == "" {
		if err := l.rows.CatchUp(ctx); err != nil {
			return Page{}, err
		}
	}
	page := Page{Items: []Document{}}
	seen, last := 0, ""
	for row, err := range l.rows.Scan(ctx, base+q.Prefix, after) {
		if err != nil {
			return Page{}, fmt.Errorf("list %s: %w", account, err)
		}
		if len(page.Items) == limit || seen == rows.ScanMax {
			page.Next = last
			break
		}
		seen++
		last = row.Key[len(base):]
		d, err := l.listedDocument(account, last, row, q.Deleted)
		if err != nil {
			return Page{}, err
		}
		if q.wants(&d) {
			page.Items = append(page.Items, d)
		}
	}
	if q.Deleted {
		page.Next = base64.RawURLEncoding.EncodeToString([]byte(page.Next))
	}
	return page, nil
}

func (l *Library) listedDocument(account, rest string, row blobstore.Row, deleted bool) (Document, error) {
	if deleted {
		return l.decodeDeleted(account, rest, row)
	}
	return decodeDocument(account, rest, row)
}

// place checks the query and returns the prefix that it scans and the key
// after which it begins.
func (q *ListQuery) place(account string) (base, after string, err error) {
	if err := naming.CheckAccount(account); err != nil {
		return "", "", err
	}
	q.Language, q.Name = strings.ToLower(q.Language), strings.ToLower(q.Name)
	var c checks
	c.Text("prefix", q.Prefix, naming.IDBytesMax)
	c.Text("name", q.Name, TextBytesMax)
	c.OneOf("class", string(q.Class), string(ClassSystem), string(ClassUpload), string(ClassVoicemail),
		string(ClassRecording))
	base = mediaKey(account, "")
	if !q.Deleted {
		c.Text("after", q.After, naming.IDBytesMax)
	} else {
		base = deletedPrefix + account + "/"
		id, err := base64.RawURLEncoding.DecodeString(q.After)
		if err != nil || len(id) > naming.IDBytesMax+1+rows.IDBytes {
			c.Fail("after", field.Invalid, "is not what a page of deleted items ended with")
		}
		q.After = string(id)
	}
	if q.After != "" {
		after = base + q.After
	}
	return base, after, c.Err()
}

func (q *ListQuery) wants(d *Document) bool {
	return (q.Language == "" || d.Language == q.Language) && (q.Prompt == "" || d.Prompt == q.Prompt) &&
		(q.Class == "" || d.Class == q.Class) &&
		(q.Name == "" || strings.Contains(strings.ToLower(d.Name), q.Name))
}
