package library

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"carillon/blobstore"
	"carillon/library/libtest"
	"carillon/library/rows"
)

// TestNamesStayConsistent does to a few names whatever can be done to names, at
// random, and looks at the rows after each step: every document has its sound
// and no sound is kept for nothing, a prompt is one document, names have the
// sounds that they were given last, and second names stand for what they were
// given for, under whatever name that is now.
func TestNamesStayConsistent(t *testing.T) {
	t.Parallel()
	cfg, local := testConfig(), libtest.OpenStore(t, t.TempDir())
	cfg.UndeleteWindow = time.Hour
	l := openLibrary(t, cfg, testDeps(local))
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		m := &nameModel{
			l: l, local: local, accounts: []string{fmt.Sprintf("a%d", run), fmt.Sprintf("b%d", run)},
			sounds: map[ItemName]string{}, aliases: map[ItemName]ItemName{},
		}
		rt.Repeat(map[string]func(*rapid.T){
			"put": m.put, "delete": m.remove, "purge": m.purge, "copy": m.copy, "rename": m.rename,
			"alias": m.alias, "undelete": m.undelete, "prompt": m.prompt, "": m.check,
		})
		for _, account := range m.accounts { // the next run counts rows, too
			for _, id := range nameIDs() {
				if err := l.Purge(rt.Context(), account, id, ""); err != nil && !errors.Is(err, ErrNotFound) {
					rt.Fatal(err)
				}
			}
		}
	})
	if left := refs(t, local); len(left) != 0 {
		t.Errorf("references are left: %q", left)
	}
	if left := libtest.Keys(t, local, promptPrefix); len(left) != 0 {
		t.Errorf("index rows are left: %q", left)
	}
}

func nameIDs() []string { return []string{"x", "x/y", "z"} }

type nameModel struct {
	l        *Library
	local    *blobstore.Local
	accounts []string
	sounds   map[ItemName]string // SHA-256 of items that are no second names
	aliases  map[ItemName]ItemName
}

func (m *nameModel) draw(rt *rapid.T, label string) ItemName {
	return ItemName{
		rapid.SampledFrom(m.accounts).Draw(rt, label+" account"), rapid.SampledFrom(nameIDs()).Draw(rt, label),
	}
}

// allow fails for an error that is not among those that the operation may have.
func allow(rt *rapid.T, err error, allowed ...error) {
	rt.Helper()
	for _, a := range allowed {
		if errors.Is(err, a) {
			return
		}
	}
	if err != nil {
		rt.Fatal(err)
	}
}

// set makes a name an item, unset makes it nothing.
func (m *nameModel) set(n ItemName, sound string) {
	delete(m.aliases, n)
	m.sounds[n] = sound
}

func (m *nameModel) unset(n ItemName) {
	delete(m.aliases, n)
	delete(m.sounds, n)
}

func (m *nameModel) put(rt *rapid.T) {
	n := m.draw(rt, "to")
	opts := PutOptions{Length: -1}
	if rapid.Bool().Draw(rt, "prompt") {
		opts.Prompt, opts.Language = rapid.SampledFrom([]string{"p", "q"}).Draw(rt, "prompt id"), "en"
	}
	sound := mp3Sound(rapid.IntRange(3, 5).Draw(rt, "frames"))
	d, _, err := m.l.Put(rt.Context(), n.Account, n.ID, bytes.NewReader(sound), opts)
	allow(rt, err, ErrBadRequest) // another prompt than it is
	if err == nil {
		m.set(n, d.SHA256)
	}
}

func (m *nameModel) remove(rt *rapid.T) {
	n := m.draw(rt, "name")
	err := m.l.Delete(rt.Context(), n.Account, n.ID, "")
	allow(rt, err, ErrNotFound)
	if err == nil {
		m.unset(n)
	}
}

func (m *nameModel) purge(rt *rapid.T) {
	n := m.draw(rt, "name")
	allow(rt, m.l.Purge(rt.Context(), n.Account, n.ID, ""), ErrNotFound)
	m.unset(n)
	for range m.deletedRows(rt, n) {
		rt.Fatal("something is left to bring back")
	}
}

func (m *nameModel) request(rt *rapid.T) CopyRequest {
	r := CopyRequest{
		From: m.draw(rt, "from"), To: m.draw(rt, "to"), Overwrite: rapid.Bool().Draw(rt, "overwrite"),
	}
	if rapid.Bool().Draw(rt, "set") {
		r.Set = Patch{Prompt: new("p"), Language: new("en")}
	}
	return r
}

func (m *nameModel) copy(rt *rapid.T) {
	r := m.request(rt)
	d, err := m.l.Copy(rt.Context(), r)
	allow(rt, err, ErrNotFound, ErrExists, ErrBadRequest)
	if err == nil {
		m.set(r.To, d.SHA256)
	}
}

func (m *nameModel) rename(rt *rapid.T) {
	r := m.request(rt)
	d, err := m.l.Rename(rt.Context(), r)
	allow(rt, err, ErrNotFound, ErrExists, ErrBadRequest)
	if err != nil {
		return
	}
	of, second := m.aliases[r.From]
	m.unset(r.From)
	m.set(r.To, d.SHA256)
	if second {
		m.unset(r.To)
		m.aliases[r.To] = of
	}
	for name, of := range m.aliases {
		if of == r.From {
			m.aliases[name] = r.To
		}
	}
}

func (m *nameModel) alias(rt *rapid.T) {
	r := AliasRequest{
		Alias: m.draw(rt, "alias"), Of: m.draw(rt, "of"), Overwrite: rapid.Bool().Draw(rt, "overwrite"),
	}
	d, err := m.l.Alias(rt.Context(), r)
	allow(rt, err, ErrNotFound, ErrExists, ErrBadRequest)
	if err == nil {
		m.unset(r.Alias)
		account, id, _ := strings.Cut(d.AliasOf, "/")
		m.aliases[r.Alias] = ItemName{account, id}
	}
}

func (m *nameModel) undelete(rt *rapid.T) {
	n := m.draw(rt, "name")
	as := m.draw(rt, "as").ID
	d, err := m.l.Undelete(rt.Context(), UndeleteRequest{Account: n.Account, ID: n.ID, As: as})
	allow(rt, err, ErrNotFound, ErrExists)
	if err == nil {
		m.set(ItemName{n.Account, as}, d.SHA256)
	}
}

func (m *nameModel) prompt(rt *rapid.T) {
	n := m.draw(rt, "name")
	p := Patch{Prompt: new(rapid.SampledFrom([]string{"", "p", "q"}).Draw(rt, "prompt id")), Language: new("en")}
	_, err := m.l.Update(rt.Context(), n.Account, n.ID, p)
	allow(rt, err, ErrNotFound, ErrBadRequest)
}

func (m *nameModel) deletedRows(rt *rapid.T, n ItemName) (found []string) {
	for row, err := range m.local.Scan(rt.Context(), deletedKeyPrefix(n.Account, n.ID), "") {
		if err != nil {
			rt.Fatal(err)
		}
		found = append(found, row.Key)
	}
	return found
}

// check compares the rows with one another and with the model.
func (m *nameModel) check(rt *rapid.T) {
	held, prompts := make(map[string]bool), make(map[string]string)
	for _, account := range m.accounts {
		for row, err := range m.local.Scan(rt.Context(), mediaKey(account, ""), "") {
			if err != nil {
				rt.Fatal(err)
			}
			d, err := decodeDocument(account, row.Key[len(mediaKey(account, "")):], row)
			if err != nil {
				rt.Fatal(err)
			}
			if d.AliasOf == "" {
				held[blobstore.RefKey(d.Blob, row.Key)] = true
				if m.sounds[ItemName{account, d.ID}] != d.SHA256 {
					rt.Fatalf("%s/%s has another sound", account, d.ID)
				}
			} else if of := m.aliases[ItemName{account, d.ID}]; of.String() != d.AliasOf {
				rt.Fatalf("%s/%s stands for %s, want %s", account, d.ID, d.AliasOf, of)
			}
			if d.Prompt != "" {
				if other, twice := prompts[promptKey(&d)]; twice {
					rt.Fatalf("%s and %s are one prompt", other, d.ID)
				}
				prompts[promptKey(&d)] = d.ID
			}
		}
		for row, err := range m.local.Scan(rt.Context(), deletedPrefix+account+"/", "") {
			if err != nil {
				rt.Fatal(err)
			}
			d, err := m.l.decodeDeleted(account, row.Key[len(deletedPrefix+account+"/"):], row)
			if err != nil {
				rt.Fatal(err)
			}
			held[blobstore.RefKey(d.Blob, row.Key)] = true
		}
	}
	for row, err := range m.local.Scan(rt.Context(), blobstore.RefPrefix, "") {
		if err != nil {
			rt.Fatal(err)
		}
		if !held[row.Key] {
			rt.Fatalf("%s keeps a sound for nothing", row.Key)
		}
		delete(held, row.Key)
	}
	for key := range held {
		rt.Fatalf("%s is missing", key)
	}
	for row, err := range m.local.Scan(rt.Context(), promptPrefix, "") {
		if err != nil {
			rt.Fatal(err)
		}
		if id, err := rows.DecodeText(row.Value); err != nil || prompts[row.Key] != id {
			rt.Fatalf("%s is %q, %v, want %q", row.Key, strings.TrimSpace(id), err, prompts[row.Key])
		}
		delete(prompts, row.Key)
	}
	for key := range prompts {
		rt.Fatalf("%s is missing", key)
	}
}
