package library

import "carillon/library/rows"

// Keys of the catalog. The digit after the letter is the version of the key's
// form. No part needs escaping: an account holds no slash, so the first slash
// after it ends it, and no name holds a NUL, so a NUL ends a name. Thus keys
// sort as their ids do, and no two names can make one key.
const (
	mediaPrefix     = "m1/"     // m1/{account}/{id}: a document
	deletedPrefix   = "d1/"     // d1/{account}/{id} NUL {inverted deletion id}: deleted documents, newest first
	promptPrefix    = "p1/"     // p1/{account}/{prompt}/{language}: id of the newest document that is it
	recordingPrefix = "r1/"     // r1/{recording id}: a recording
	ownerPrefix     = "o1/"     // o1/{account}/{recording id}: recordings of an account
	namePrefix      = "n1/"     // n1/{account}/{name} NUL {inverted recording id}: newest first
	activePrefix    = "a1/"     // a1/{recording id}: recordings that the periodic pass must look at
	livePrefix      = "l1/"     // l1/{account}/{mount}: the live source of a configured account
	accountPrefix   = "s1/"     // s1/{account}/: settings of an account; the slash sorts them as its media are
	reapKey         = "z1/reap" // the last pass over what is too old, see reapRow
	// Of others are e1/ (feed), k1/play (playtoken), k1/restore (restore), w1/ and
	// ws1/ (webhook), x1/, xo1/ and xd1/ (export).
)

func mediaKey(account, id string) string { return mediaPrefix + account + "/" + id }

func deletedKeyPrefix(account, id string) string { return deletedPrefix + account + "/" + id + "\x00" }

func deletedKey(account, id, deletion string) string {
	return deletedKeyPrefix(account, id) + rows.InvertID(deletion)
}

// promptKey is "" for a document that is no prompt.
func promptKey(d *Document) string {
	if d.Prompt == "" {
		return ""
	}
	return promptIndexKey(d.Account, d.Prompt, d.Language)
}

func promptIndexKey(account, prompt, language string) string {
	return promptPrefix + account + "/" + prompt + "/" + language
}

func accountKey(account string) string { return accountPrefix + account + "/" }

func recordingKey(id string) string { return recordingPrefix + id }

func ownerKey(account, id string) string { return ownerPrefix + account + "/" + id }

func activeKey(id string) string { return activePrefix + id }

func liveKey(account, mount string) string { return livePrefix + account + "/" + mount }

func nameKeyPrefix(account, name string) string { return namePrefix + account + "/" + name + "\x00" }

// nameKey sorts a name's recordings newest first, so that finding the newest
// is reading one row.
func nameKey(account, name, id string) string {
	return nameKeyPrefix(account, name) + rows.InvertID(id)
}
