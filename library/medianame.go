package library

import (
	"fmt"
	"net/url"
	"strings"

	"carillon/library/naming"
)

// The schemes of media names that are ours to understand.
const (
	promptScheme = "prompt://"
	ttsScheme    = "tts://"
	macroScheme  = "file_string://"
	// systemMedia is what Kazoo calls the account system.
	systemMedia = "system_media"
	// ttsFolder holds speech: tts://ID is the item tts/ID.
	ttsFolder = "tts/"
	// tmpFolder is on the switch: such a name is a file of its own.
	tmpFolder = "/tmp/"
)

const (
	// kazooAccountBytes is the length of Kazoo's account ids, 32 hex digits.
	kazooAccountBytes = 32
	// kazooMonthBytes is what a month database has behind the account: "-202403".
	kazooMonthBytes = 7
)

// passesThrough says whether FreeSWITCH plays the name without us.
func passesThrough(name string) bool {
	if name == "silence" || name[0] == '$' || strings.HasPrefix(name, tmpFolder) {
		return true
	}
	scheme, rest, found := strings.Cut(name, ":")
	switch scheme {
	case "say", "phrase":
		return found
	case "http", "https", "http_cache", "tone_stream", "silence_stream", "local_stream", "shout", "shouts",
		"shell_stream":
		return strings.HasPrefix(rest, "//")
	}
	return false
}

// place is where a name may lead: to an item or the name of a recording, or,
// with a prompt, to that in a language ("": the caller's) of an account and
// those above it.
type place struct {
	account, id      string
	prompt, language string
}

// places are where a name may lie, in the order of search. ErrBadName for what
// can be none. No name leads to more than a handful.
func places(r *LookupRequest) ([]place, error) {
	if id, found := strings.CutPrefix(r.Name, ttsScheme); found {
		return speechPlaces(r, id)
	}
	var all []place
	var bad error
	for _, name := range spellings(r.Name) {
		var found []place
		var err error
		if rest, found2 := strings.CutPrefix(name, promptScheme); found2 {
			found, err = promptPlaces(rest)
		} else if rest, absolute := strings.CutPrefix(name, "/"); absolute {
			found, err = absolutePlaces(rest)
		} else {
			found, err = barePlaces(r.Account, name)
		}
		if err != nil && bad == nil {
			bad = err
		}
		all = append(all, found...)
	}
	if len(all) == 0 {
		return nil, bad
	}
	return all, nil
}

// spellings are a name as it is and, if it holds escapes, without them: Kazoo
// escapes each segment, and an id may hold a '%' of its own.
func spellings(name string) []string {
	if !strings.Contains(name, "%") {
		return []string{name}
	}
	plain, err := url.PathUnescape(name)
	if err != nil || plain == name || !naming.IsPlain(plain) {
		return []string{name}
	}
	return []string{name, plain}
}

// cutAccount cuts the account from a path. Kazoo's database names
// ("account/ab/cd/…", "…-202403" for a month) are the account's id.
func cutAccount(path string) (account, rest string) {
	if id, behind, found := cutDatabase(path); found {
		return id, behind
	}
	account, rest, _ = strings.Cut(path, "/")
	if account == systemMedia {
		account = SystemAccount
	}
	return account, rest
}

// cutDatabase cuts the name of one of Kazoo's databases: account/ab/cd/ and 28
// more digits, and perhaps a month.
func cutDatabase(path string) (account, rest string, found bool) {
	const begin = "account/"
	end := len(begin) + kazooAccountBytes + 2
	if !strings.HasPrefix(path, begin) || len(path) <= end {
		return "", "", false
	}
	p := path[len(begin):end]
	if account = p[:2] + p[3:5] + p[6:]; p[2] != '/' || p[5] != '/' || !isHex(account) {
		return "", "", false
	}
	switch rest = path[end:]; {
	case rest[0] == '/':
		return account, rest[1:], true
	case len(rest) > kazooMonthBytes && rest[0] == '-' && rest[kazooMonthBytes] == '/':
		return account, rest[kazooMonthBytes+1:], true
	}
	return "", "", false
}

// absolutePlaces are those of ACCOUNT/ID and ACCOUNT/ID/ATTACHMENT: here an item
// has one sound, so the last segment counts only as long as an id has it.
func absolutePlaces(path string) ([]place, error) {
	account, id := cutAccount(path)
	if err := naming.CheckItem(account, id); err != nil {
		return nil, err
	}
	found := []place{{account: account, id: id}}
	first, second, split := strings.Cut(id, "/")
	switch {
	case !split || strings.Contains(second, "/"):
	case account == SystemAccount: // LANG/PROMPT
		found = append(found, promptPlace(account, second, first)...)
	default:
		found = append(found, place{account: account, id: first})
	}
	return found, nil
}

// barePlaces are those of a name without an account: in the caller's own, in
// system, as ACCOUNT/ID, and at last as the prompt of that id.
func barePlaces(caller, name string) ([]place, error) {
	if rest, found := strings.CutPrefix(name, systemMedia+"/"); found {
		return absolutePlaces(SystemAccount + "/" + rest)
	}
	if err := naming.CheckID(name); err != nil {
		return nil, err
	}
	var found []place
	if caller != "" && caller != SystemAccount {
		found = append(found, place{account: caller, id: name})
	}
	found = append(found, place{account: SystemAccount, id: name})
	if !strings.Contains(name, "/") {
		if caller == "" {
			caller = SystemAccount
		}
		return append(found, promptPlace(caller, name, "")...), nil
	}
	if account, id := cutAccount(name); naming.CheckItem(account, id) == nil {
		found = append(found, place{account: account, id: id})
	}
	return found, nil
}

// promptPlaces are those of ACCOUNT/PROMPT[/LANG].
func promptPlaces(rest string) ([]place, error) {
	account, prompt := cutAccount(rest)
	prompt, language, _ := strings.Cut(prompt, "/")
	if err := naming.CheckAccount(account); err != nil {
		return nil, err
	}
	found := promptPlace(account, prompt, language)
	if found == nil {
		return nil, fmt.Errorf("prompt %s, want %sACCOUNT/PROMPT[/LANGUAGE]: %w",
			naming.Shown(rest), promptScheme, ErrBadName)
	}
	return found, nil
}

// promptPlace is the place of a prompt, none if it cannot be one.
func promptPlace(account, prompt, language string) []place {
	language = strings.ToLower(language)
	if naming.CheckID(prompt) != nil || checkPrompt(prompt, language) != nil {
		return nil
	}
	return []place{{account: account, prompt: prompt, language: language}}
}

// speechPlaces are those of tts://ID. What was synthesised elsewhere and stored
// as tts/ID is played; nothing is synthesised here.
func speechPlaces(r *LookupRequest, id string) ([]place, error) {
	if err := naming.CheckID(ttsFolder + id); err != nil {
		return nil, err
	}
	found := []place{{account: SystemAccount, id: ttsFolder + id}}
	if r.Account != "" && r.Account != SystemAccount {
		found = append([]place{{account: r.Account, id: ttsFolder + id}}, found...)
	}
	return found, nil
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
